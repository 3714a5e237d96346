"""Checkpoints of SimpleNet's released PyTorch code.

Its `ckpt.pth` holds the state dicts of `discriminator` (`simplenet.py`,
`Discriminator`) and `pre_projection` (`Projection`); the backbone is not in it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.models.weights import files

_PARTS = ('discriminator', 'pre_projection')
_NAMES = {
  'pre_projection.layers.0fc.weight': 'params.adaptor.0.kernel',
  'pre_projection.layers.0fc.bias': 'params.adaptor.0.bias',
  'discriminator.body.block1.0.weight': 'params.discriminator.first.kernel',
  'discriminator.body.block1.0.bias': 'params.discriminator.first.bias',
  'discriminator.body.block1.1.weight': 'params.discriminator.norm.scale',
  'discriminator.body.block1.1.bias': 'params.discriminator.norm.bias',
  'discriminator.body.block1.1.running_mean': 'stats.discriminator.norm.mean',
  'discriminator.body.block1.1.running_var': 'stats.discriminator.norm.var',
  'discriminator.tail.weight': 'params.discriminator.tail.kernel',
}
_UNUSED = 'discriminator.body.block1.1.num_batches_tracked'


def load(path: Path, config: Config) -> dict[str, np.ndarray]:
  """Reads a released checkpoint's head.

  Args:
    path: `ckpt.pth`; reading it needs PyTorch.
    config: With `patch.target_dim`, to be checked.

  Returns:
    A head's leaves, as a finished head is saved.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If it is no such checkpoint, or of another kind of head.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such checkpoint')
  try:
    found = files.read_torch(path)
  except ImportError:
    raise ValueError(f'{path}: needs PyTorch to be read') from None
  # A damaged file can fail anywhere in torch's reader.
  except Exception as error:
    raise ValueError(
      f'{path}: damaged, or not a file of tensors ({type(error).__name__})'
    ) from None
  if missing := [
    part for part in _PARTS if not isinstance(found.get(part), dict)
  ]:
    raise ValueError(
      f'{path}: not a checkpoint of the released code, {" and ".join(missing)} '
      'not in it'
    )
  try:
    return _head(found, config.patch.target_dim)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def _head(found: Mapping[str, Any], dim: int) -> dict[str, np.ndarray]:
  tensors = {
    f'{part}.{name}': np.asarray(value)
    for part in _PARTS
    for name, value in found[part].items()
  }
  # The adaptor of the paper's text has no bias.
  may_miss = {_UNUSED, 'pre_projection.layers.0fc.bias'}
  if odd := sorted((tensors.keys() ^ _NAMES.keys()) - may_miss):
    raise ValueError(
      f'missing or unknown: {", ".join(odd[:3])}; expected one linear layer as '
      'adaptor and a discriminator of two'
    )
  head = {}
  for theirs, ours in _NAMES.items():
    if theirs in tensors:
      value = tensors[theirs]
      floating = jnp.issubdtype(value.dtype, jnp.floating)
      value = value.astype(np.float32) if floating else value
      head[ours] = value.T if value.ndim == 2 else value
      if value.dtype.kind != 'f' or not np.isfinite(value).all():
        raise ValueError(f'{theirs} is not finite')
  hidden = head['params.discriminator.first.bias'].size
  expected = {
    'params.adaptor.0.kernel': (dim, dim),
    'params.adaptor.0.bias': (dim,),
    'params.discriminator.first.kernel': (dim, hidden),
    'params.discriminator.tail.kernel': (hidden, 1),
  }
  for name in head:
    shape = expected.get(name, (hidden,))
    if head[name].shape != shape:
      raise ValueError(
        f'{name} is {list(head[name].shape)}, expected {list(shape)}; set '
        '--config.patch.target_dim'
      )
  return head
