"""What does not hold, gathered so that the rest is measured all the same."""


class Findings(list[str]):
  """What does not hold, in words."""

  def expect(self, holds: bool, what: str) -> None:
    """Adds what is wrong unless something holds, and says so."""
    if not holds:
      self.append(what)
      print(f'WRONG {what}', flush=True)

  def conclude(self) -> None:
    """Raises ValueError with all of it, if there is anything."""
    if self:
      raise ValueError(f'{len(self)} findings: {"; ".join(self)}')
