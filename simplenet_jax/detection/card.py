"""A detector's card: what it is, all but the weights, as JSON."""

import dataclasses
import json
import sys
import types
import typing
from typing import Any, Self

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection.inputs import Appearance, Look
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.models import Structure
from simplenet_jax.pictures import Scale

FORMAT = 'simplenet-jax detector 4'  # Its number counts changes of `Card`.
# Without a threshold, colours are hottest so many times the spread of training
# images above the highest of them: new good ones lie somewhat higher.
_HEADROOM = 3.0


@dataclasses.dataclass(frozen=True)
class Card:
  """A detector's description, all that a program needs beside the weights."""

  name: str  # The category's.
  network: Structure
  heads: int  # How many heads' scores are averaged; 0: there is none.
  resize: int  # The shorter side before the crop; not read without one.
  crop: int  # Side of the centre that is used; 0: the whole image is.
  bits: int  # How many bits 16-bit gray images make use of.
  # Training pushed normal patches below `-margin`, counterfeits above `margin`.
  margin: float
  thresholds: Thresholds
  provenance: dict[str, Any]  # Config, data, weights, seeds, versions.
  # Good patches to which distances count beside the heads; 0: there are none.
  nearest: int = 0
  appearance: Appearance | None = None  # What training images look like.
  # The median and the highest value of training images' anomaly maps.
  usual: tuple[float, float] | None = None
  # What was found wrong when the detector was trained, a sentence each.
  cautions: tuple[str, ...] = ()
  # Images that it was trained on, once its thresholds no longer tell them.
  trained: tuple[Look, ...] = ()

  @property
  def seen(self) -> frozenset[Look]:
    """What images that it was trained on look like, as far as is known."""
    good = self.thresholds.good if self.thresholds.folds else ()
    return frozenset({*self.trained, *(one.look for one in good if one.look)})

  def judging_by(self, thresholds: Thresholds) -> Self:
    """Returns it with other thresholds; what it was trained on stays known."""
    trained = tuple(sorted(self.seen))
    return dataclasses.replace(self, thresholds=thresholds, trained=trained)

  def frame(self, size: tuple[int, int]) -> Frame:
    """Returns how an image of some (height, width) is brought to the input."""
    return Frame.of(size, self.resize, self.crop, self.network.size)

  @property
  def scale(self) -> Scale:
    """Which colours the scores of its anomaly maps have in pictures."""
    if self.usual is None:
      return Scale.of(-self.margin, self.margin, self.thresholds.pixel)
    median, highest = self.usual
    # Training pushes good and counterfeit patches as far to either side of 0,
    # so the latter score about as much above it as good ones do below.
    hot = max(-median, highest + _HEADROOM * (highest - median))
    return Scale.of(median, hot, self.thresholds.pixel)

  def to_json(self) -> str:
    """Returns the card as JSON."""
    return json.dumps({'format': FORMAT, **dataclasses.asdict(self)})

  @classmethod
  def from_json(cls, text: str) -> Self:
    """Reads a card; a ValueError if it is none, nonsense or of the future."""
    try:
      fields = json.loads(text)
      found = fields.pop('format')
      if found == FORMAT:
        card = _parse(cls, fields)
        card.check()
        return card
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
      told = 'its description is damaged or makes no sense; copy it again'
      raise ValueError(told) from None
    raise ValueError(
      f'its format is {found!r}, this version reads {FORMAT!r}; upgrade '
      'simplenet-jax, or train it again'
    )

  def check(self) -> None:
    """Raises a ValueError for values with which nothing can be judged."""
    network, found, known = self.network, self.thresholds, self.appearance
    if not (
      all(0 < side < 2**16 for side in network.size)
      and 0 < self.resize < 2**16
      and self.crop >= 0
      and (not self.crop or network.size == (self.crop, self.crop))
      and 8 <= self.bits <= 16
      and self.margin >= 0
      and (found.target_rate is None or 0 < found.target_rate < 1)
      and set(found.manual) <= {'image', 'pixel'}
      and all(getattr(found, name) is not None for name in found.manual)
      and 0 <= found.images < 2**32
      and len(found.good) in (0, found.images)
      and list(found.good) == sorted(found.good, key=lambda one: one.score)
      and (known is None or known.makes_sense())
      and (self.usual is None or self.usual[0] <= self.usual[1])
    ):
      raise ValueError('makes no sense')


def _parse(kind: Any, value: Any) -> Any:
  """Returns JSON as a field's type; raises a TypeError if it is of another."""
  arguments = typing.get_args(kind)
  if dataclasses.is_dataclass(kind) and isinstance(value, dict):
    hints = typing.get_type_hints(kind)
    found = {name: _parse(hints[name], one) for name, one in value.items()}
    return typing.cast(Any, kind)(**found)
  if hasattr(kind, '_fields') and isinstance(value, list):
    fields = zip(kind.__annotations__.values(), value, strict=True)
    return typing.cast(Any, kind)(*(_parse(*field) for field in fields))
  if isinstance(kind, types.UnionType):  # Always of a type and None.
    return None if value is None else _parse(arguments[0], value)
  if typing.get_origin(kind) is tuple and isinstance(value, list):
    if arguments[-1] is ...:
      arguments = arguments[:1] * len(value)
    if len(arguments) == len(value):
      return tuple(map(_parse, arguments, value))
  if kind is float and isinstance(value, int | float):
    # JSON knows NaN, and whole numbers that no float can hold.
    if type(value) is not bool and abs(value) <= sys.float_info.max:
      return value
  elif type(value) is (typing.get_origin(kind) or kind):
    return value
  raise TypeError
