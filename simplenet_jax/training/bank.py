"""The backbone by a config, the features that it makes, and files of these."""

import contextlib
import dataclasses
import fcntl
import functools
import math
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax.config import Config, bank_dtype, trains_heads
from simplenet_jax.console import console, first_line
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models import simplenet, weights
from simplenet_jax.models.simplenet import FeatureNetwork
from simplenet_jax.training.levels import Levels

_PARTIAL, _SUFFIX = '.partial-', '.features'  # Of files of the cache.
_ROUNDING = 1e-6  # Relative; features that vary less do not vary.


@dataclasses.dataclass(frozen=True)
class Extraction(FeatureNetwork):
  """The way to features as they are stored."""

  precision: str  # Of convolutions.
  dtype: str  # Of what is stored.

  @classmethod
  def of(cls, config: Config, **others: Any) -> Self:
    """Returns a config's."""
    others['precision'] = config.backbone.precision
    return super().of(config, dtype=bank_dtype(config), **others)


@functools.partial(jax.jit, static_argnames='network')
def extract(
  network: Extraction, weights: Any, pixels: jax.Array
) -> tuple[jax.Array, ...]:
  """Returns levels' features as stored; weights come from `on_device`."""

  def features(pixels):
    return simplenet.features(network, weights, pixels, network.precision)

  def one_by_one(pixels):
    # Batches take longer an image there: their layers' outputs leave the cache.
    levels = jax.lax.map(lambda one: features(one[None]), pixels)
    return tuple(level[:, 0] for level in levels)

  levels = jax.lax.platform_dependent(pixels, cpu=one_by_one, default=features)
  return tuple(level.astype(network.dtype) for level in levels)


def on_device(network: Extraction, weights: Any, device: Any) -> Any:
  """Returns a backbone's weights as `extract` takes them, on a device."""
  layout = simplenet.layout_for(device.platform, network.precision)
  prepared = simplenet.prepare(network, weights, network.precision, layout)
  return jax.device_put(prepared, device)


def shapes(
  config: Config, weights: Any, size: Sequence[int]
) -> tuple[jax.ShapeDtypeStruct, ...]:
  """Returns each level's `[h, w, channels]` of an image of `size` pixels."""
  features = functools.partial(simplenet.features, FeatureNetwork.of(config))
  pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
  return tuple(
    jax.ShapeDtypeStruct(level.shape[1:], jnp.dtype(bank_dtype(config)))
    for level in jax.eval_shape(features, weights, pixels)
  )


def load_backbone(config: Config) -> weights.Weights:
  """Loads the backbone's weights by a config; see `weights.load`."""
  backbone = config.backbone
  source = backbone.weights or weights.DEFAULT_WEIGHTS[backbone.name]
  return weights.load(source, backbone.name, backbone.levels, backbone.probe)


def check_noise(
  config: Config, loaded: weights.Weights, one: Inputs
) -> weights.Weights:
  """Returns the weights, with a warning if the noise does not fit features."""
  if not trains_heads(config):
    return loaded
  network, size = Extraction.of(config), config.backbone.batch_size

  def features():
    count = min(2, len(one.train), size)
    pixels = np.stack([one.pixels(i) for i in range(count)])
    # As training does it, so that the first device has its program already.
    with computing(jax.local_devices()[0]) as device:
      state = on_device(network, loaded.state, device)
      batch = padded(pixels, size)
      found = extract(network, state, batch)
    return [np.asarray(level[:count], np.float32) for level in found]

  if line := weights.misfit(config, loaded, features):
    logging.warning('%s: %s', loaded.name, line)
    return dataclasses.replace(loaded, warnings=(line,))
  return loaded


@contextlib.contextmanager
def computing(device: Any) -> Iterator[Any]:
  """Computes on a device, in float32 but for the heads' products."""
  with jax.default_device(device), jax.default_matmul_precision('float32'):
    yield device


@jax.jit
def moments(levels: Levels, rows: jax.Array) -> list[jax.Array]:
  """Returns means and variances over images' positions, `[rows, dims]`."""
  found = []
  for level in levels.images(rows):
    values = level.astype(jnp.float32)
    found.append((values.mean((1, 2)), values.var((1, 2))))
  return [jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]


def spread(parts: Sequence[Sequence[np.ndarray]]) -> float:
  """Returns how wide the features of images spread, by parts of `moments`.

  It is the root mean square, over the dimensions of all levels, of the standard
  deviation over all positions of all images. In units of it, noise is as strong
  for weights of any scale, as with the released code's `auto_noise`. Raises
  ValueError if features are not finite, or do not vary.
  """
  means, inner = (
    np.concatenate(one).astype(np.float64) for one in zip(*parts, strict=True)
  )
  if not (np.isfinite(means).all() and np.isfinite(inner).all()):
    raise ValueError('features are not finite; use --config.bank.dtype=float32')
  variance = float((inner.mean(0) + means.var(0)).mean())
  if variance <= _ROUNDING**2 * float(np.square(means).mean()):
    remedy = 'give other images, or --config.train.noise=absolute'
    raise ValueError(f'its features do not vary; {remedy}')
  return math.sqrt(variance)


def padded(values: np.ndarray, size: int) -> np.ndarray:
  """Pads the first axis with zeros."""
  missing = size - len(values)
  return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])


class FeatureCache:
  """A folder of features, each an array of `layout.row_type`, that runs share.

  A file holds those of one category. Its name is a digest of all that they
  depend on, so that it is never out of date, and a checksum. Several processes
  can fill, read and trim the folder, from which the least recently used go
  first.
  """

  def __init__(self, folder: Path, gigabytes: float):
    """Makes the folder; its files together take `gigabytes` at most."""
    folder.mkdir(parents=True, exist_ok=True)
    self._folder, self._limit = folder, int(gigabytes * 1e9)

  def find(self, key: str) -> Path | None:
    """Returns the file of features, whole or not, if there is one."""
    return next(self._folder.glob(f'{key}-*{_SUFFIX}'), None)

  def read(self, key: str, kind: np.dtype) -> np.ndarray | None:
    """Maps features into memory; a file that is damaged is told and removed."""
    if not (path := self.find(key)):
      return None
    try:
      content = np.memmap(path, np.uint8, 'r')
      if path != self._path(key, content):
        raise ValueError('its checksum is another than when it was written')
      os.utime(path)
    except FileNotFoundError:  # Another process has made room.
      return None
    except (OSError, ValueError) as error:
      console.print(f'  {path} is damaged and made again ({first_line(error)})')
      path.unlink(missing_ok=True)
      return None
    return content.view(kind)

  @contextlib.contextmanager
  def filled(
    self, key: str, kind: np.dtype, images: int
  ) -> Iterator[np.ndarray | None]:
    """Yields an array to fill, and keeps it; None where there is no room."""
    size = images * kind.itemsize
    with contextlib.ExitStack() as opened:
      try:
        self._make_room(size)
        file = opened.enter_context(
          tempfile.NamedTemporaryFile(
            prefix=_PARTIAL, dir=self._folder, delete=False
          )
        )
        opened.callback(Path(file.name).unlink, missing_ok=True)
        # Held until this process ends: others tell by it what a kill has left.
        fcntl.flock(file, fcntl.LOCK_EX)
        os.posix_fallocate(file.fileno(), 0, size)
      except (OSError, ValueError) as error:
        told = f'features are not kept in the cache: {first_line(error)}'
        console.print(f'  {told}')
        yield None
        return
      content = np.memmap(file, np.uint8, 'r+')
      yield content.view(kind)
      content.flush()
      # Another process may have taken it for what a kill has left.
      with contextlib.suppress(FileNotFoundError):
        Path(file.name).replace(self._path(key, content))

  def _path(self, key: str, content: np.ndarray) -> Path:
    checksum = zlib.crc32(content.data)
    return self._folder / f'{key}-{checksum:08x}{_SUFFIX}'

  def _make_room(self, size: int) -> None:
    """Removes what a kill has left, then what was not used for longest."""
    for path in self._folder.glob(f'{_PARTIAL}*'):
      with contextlib.suppress(OSError), path.open('rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    if size > self._limit:
      raise ValueError(
        f'they take {size / 1e9:.3g} GB; raise --config.bank.cache_gb (now '
        f'{self._limit / 1e9:.3g})'
      )
    found = []
    for path in self._folder.glob(f'*{_SUFFIX}'):
      with contextlib.suppress(FileNotFoundError):
        about = path.stat()
        found.append((about.st_mtime_ns, about.st_size, path))
    taken = sum(one for _, one, _ in found)
    for _, one, path in sorted(found):
      if taken + size <= self._limit:
        break
      path.unlink(missing_ok=True)
      taken -= one
