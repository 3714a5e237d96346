"""SimpleNet in JAX: anomaly detection and localisation on images."""

from typing import TYPE_CHECKING

__version__ = '0.1.0'
__all__ = ['Detector', 'Prediction']

if TYPE_CHECKING:
  from simplenet_jax.detector import Detector, Prediction
else:

  def __getattr__(name):
    """Loads what a program imports, and jax with it, once it does."""
    if name not in __all__:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from simplenet_jax import detector

    return getattr(detector, name)


def __dir__() -> list[str]:
  return [*globals(), *__all__]
