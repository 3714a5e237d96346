"""The backbone by a config, the features that it makes, and files of these."""

import contextlib
import dataclasses
import fcntl
import hashlib
import math
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax.config import Config
from simplenet_jax.console import console, first_line
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models import simplenet, weights

_CHECKSUM = 4  # Bytes after the features in a file of the cache.
_PARTIAL = '.partial-'
_ROUNDING = 1e-6  # Relative; features that vary less do not vary.


@dataclasses.dataclass(frozen=True)
class Extractor(simplenet.FeatureNetwork):
  """The way from pixels to features of some type, without the weights."""

  dtype: str = 'float32'

  def __call__(self, weights: Any, pixels: jax.Array) -> tuple[jax.Array, ...]:
    """Returns each level's `[batch, h, w, channels]`, see `features`."""
    levels = simplenet.features(self, weights, pixels)
    return tuple(level.astype(self.dtype) for level in levels)

  def shapes(
    self, weights: Any, size: Sequence[int]
  ) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns each level's `[h, w, channels]` of an image of `size` pixels."""
    pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    return tuple(
      jax.ShapeDtypeStruct(level.shape[1:], level.dtype)
      for level in jax.eval_shape(self, weights, pixels)
    )


extract = jax.jit(Extractor.__call__, static_argnums=0)


def make_extractor(config: Config) -> Extractor:
  """Returns the way from pixels to pooled features."""
  backbone, patch = config.backbone, config.patch
  return Extractor(
    architecture=backbone.name,
    levels=tuple(backbone.levels),
    padding=backbone.padding,
    patch_size=patch.size,
    pretrain_dim=patch.pretrain_dim,
    target_dim=patch.target_dim,
    dtype=config.bank.dtype,
  )


def load_backbone(config: Config) -> weights.Weights:
  """Loads the backbone's weights by a config; see `weights.load`."""
  backbone = config.backbone
  source = backbone.weights or weights.DEFAULT_WEIGHTS[backbone.name]
  return weights.load(source, backbone.name, backbone.levels, backbone.probe)


def check_noise(
  config: Config, extractor: Extractor, loaded: weights.Weights, one: Inputs
) -> weights.Weights:
  """Returns the weights, with a warning if the noise does not fit features."""
  train, size = config.train, config.backbone.batch_size

  def features():
    count = min(2, len(one.train), size)
    pixels = np.stack([one.pixels(i) for i in range(count)])
    # As training does it, so that the first device has its program already.
    with computing(jax.local_devices()[0]) as device:
      state = jax.device_put(loaded.state, device)
      found = extract(extractor, state, padded(pixels, size))
    return [np.asarray(level[:count], np.float32) for level in found]

  sigma = train.sigma if train.noise == 'absolute' else None
  name, levels = extractor.architecture, extractor.levels
  if line := weights.misfit(loaded, name, levels, sigma, features):
    logging.warning('%s: %s', loaded.name, line)
    return dataclasses.replace(loaded, warnings=(line,))
  return loaded


@contextlib.contextmanager
def computing(device: Any) -> Iterator[Any]:
  """Computes on a device, in float32 but for the heads' products."""
  with jax.default_device(device), jax.default_matmul_precision('float32'):
    yield device


@jax.jit
def moments(levels: Sequence[jax.Array], rows: jax.Array) -> list[jax.Array]:
  """Returns means and variances over images' positions, `[rows, dims]`."""
  found = []
  for level in levels:
    values = jnp.take(level, rows, axis=0, mode='clip').astype(jnp.float32)
    found.append((values.mean((1, 2)), values.var((1, 2))))
  return [jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]


def spread(parts: Sequence[Sequence[np.ndarray]]) -> float:
  """Returns how wide the features of images spread, by parts of `moments`.

  It is the root mean square, over the dimensions of all levels, of the standard
  deviation over all positions of all images. In units of it, noise is as strong
  for weights of any scale, as with the released code's `auto_noise`.

  Raises:
    ValueError: If features are not finite, or do not vary.
  """
  means, inner = (
    np.concatenate(one).astype(np.float64) for one in zip(*parts, strict=True)
  )
  if not (np.isfinite(means).all() and np.isfinite(inner).all()):
    raise ValueError(
      'its features are not finite; use --config.bank.dtype=float32'
    )
  variance = float((inner.mean(0) + means.var(0)).mean())
  if variance <= _ROUNDING**2 * float(np.square(means).mean()):
    raise ValueError(
      'its features do not vary; give other images, or '
      '--config.train.noise=absolute'
    )
  return math.sqrt(variance)


def padded(values: np.ndarray, size: int) -> np.ndarray:
  """Pads the first axis with zeros."""
  missing = size - len(values)
  return np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])


def cache_key(inputs: Inputs, made_by: str) -> str:
  """Returns a digest of a category's images and of what made their features."""
  digest = hashlib.sha256(made_by.encode())
  test = [sample.path for sample in inputs.category.test]
  frames = [*inputs.train, *inputs.test]
  for file, frame in zip([*inputs.category.train, *test], frames, strict=True):
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    digest.update(f'{found} {frame}\n'.encode())
  return digest.hexdigest()


class FeatureCache:
  """A folder of features, each an array of `layout.row_type`, that runs share.

  A file holds those of one category and their checksum, under a digest of all
  that they depend on: it is never out of date. Several processes can fill, read
  and trim the folder, from which the least recently used go first.
  """

  def __init__(self, folder: Path, gigabytes: float):
    """Makes the folder; its files together take `gigabytes` at most."""
    folder.mkdir(parents=True, exist_ok=True)
    self._folder, self._limit = folder, int(gigabytes * 1e9)

  def has(self, key: str) -> bool:
    """Returns whether there is a file, whole or not."""
    return self._path(key).exists()

  def read(self, key: str, kind: np.dtype, images: int) -> np.ndarray | None:
    """Maps features into memory; a file that is damaged is told and removed."""
    path = self._path(key)
    try:
      content = np.memmap(path, np.uint8, 'r')
      data, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
      if len(data) != images * kind.itemsize:
        raise ValueError(f'{len(content)} bytes are too few or too many')
      if _checksum(data) != checksum.tobytes():
        raise ValueError('its checksum is another than when it was written')
      os.utime(path)
    except FileNotFoundError:
      return None
    except (OSError, ValueError) as error:
      console.print(f'  {path} is damaged and made again ({first_line(error)})')
      path.unlink(missing_ok=True)
      return None
    return data.view(kind)

  @contextlib.contextmanager
  def filled(
    self, key: str, kind: np.dtype, images: int
  ) -> Iterator[np.ndarray | None]:
    """Yields an array to fill, and keeps it; None where there is no room."""
    size = images * kind.itemsize + _CHECKSUM
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
        console.print(
          f'  features are not kept in the cache: {first_line(error)}'
        )
        yield None
        return
      content = np.memmap(file, np.uint8, 'r+')
      data = content[:-_CHECKSUM]
      yield data.view(kind)
      content[-_CHECKSUM:] = np.frombuffer(_checksum(data), np.uint8)
      content.flush()
      # Another process may have taken it for what a kill has left.
      with contextlib.suppress(FileNotFoundError):
        Path(file.name).replace(self._path(key))

  def _path(self, key: str) -> Path:
    return self._folder / f'{key}.features'

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
    for path in self._folder.glob('*.features'):
      with contextlib.suppress(FileNotFoundError):
        about = path.stat()
        found.append((about.st_mtime_ns, about.st_size, path))
    taken = sum(one for _, one, _ in found)
    for _, one, path in sorted(found):
      if taken + size <= self._limit:
        break
      path.unlink(missing_ok=True)
      taken -= one


def _checksum(data: np.ndarray) -> bytes:
  return zlib.crc32(data.data).to_bytes(_CHECKSUM, 'big')
