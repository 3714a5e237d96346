"""StableHLO, for programs with nothing but JAX."""

from collections.abc import Callable

import jax
import numpy as np

from simplenet_jax.detector import Detector
from simplenet_jax.models import simplenet

PLATFORMS = ('cpu', 'cuda', 'tpu')
FILE = 'model.stablehlo'
_FOLDERS = 'jax_hlo_source_file_canonicalization_regex'

Runner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def build(detector: Detector) -> bytes:
  """Returns a detector as a serialised `jax.export.Exported`.

  Its one function maps pixels uint8 `[images, *size, 3]`, any number of them,
  to anomaly maps `[images, *size]` and scores `[images]`, float32, on all of
  `PLATFORMS`.
  """
  structure = detector.card.network
  (images,) = jax.export.symbolic_shape('images')
  pixels = jax.ShapeDtypeStruct((images, *structure.size, 3), np.uint8)
  # Operations know the source files that they come from: by name alone.
  known = jax.config.values[_FOLDERS]
  jax.config.update(_FOLDERS, r'.*[/\\]')
  try:
    exported = jax.export.export(
      jax.jit(simplenet.plain(structure, detector.weights)), platforms=PLATFORMS
    )(pixels)
    return bytes(exported.serialize())
  finally:
    jax.config.update(_FOLDERS, known)


def runner(model: bytes) -> Runner:
  """Returns what an exported file computes, as its users would run it."""
  call = jax.jit(jax.export.deserialize(bytearray(model)).call)

  def run(pixels):
    maps, scores = call(pixels)
    return np.asarray(maps), np.asarray(scores)

  return run
