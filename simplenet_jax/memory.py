"""Memory that is not enough."""


def exhausted(error: BaseException) -> bool:
  """Returns whether an error is a device's that is out of memory."""
  # JAX has no class of its own for it.
  return isinstance(error, RuntimeError) and 'RESOURCE_EXHAUSTED' in str(error)
