"""torchvision's tensor names to a backbone's state, strictly, and back.

Kernels are `[outputs, inputs, height, width]` in torch and
`[height, width, inputs, outputs]` in Flax.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplenet_jax.models import resnet
from simplenet_jax.models.weights import kinds

_OIHW_TO_HWIO = (2, 3, 1, 0)
_HWIO_TO_OIHW = (3, 2, 0, 1)
_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}


def from_torch_names(
  tensors: Mapping[str, np.ndarray],
  architecture: str,
  levels: Sequence[int],
  origin: str = 'the given tensors',
) -> nnx.State:
  """Turns tensors with torchvision's names into a backbone's state.

  Args:
    tensors: Arrays of any floating type; kernels
      `[outputs, inputs, height, width]`.
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: The levels that the backbone returns.
    origin: Where the tensors come from, for error messages.

  Returns:
    A state for `resnet.apply`, with float32 NumPy leaves.

  Raises:
    ValueError: If the tensors are another network's; or if a tensor is missing,
      unexpected, of another shape, of another kind than floating, or not
      finite: all such tensors in one message.
  """
  if architecture in resnet.ARCHITECTURES and (
    objection := kinds.objection(tensors, architecture)
  ):
    raise ValueError(f'{origin} {objection}')
  flat = nnx.to_flat_state(resnet.abstract(architecture, levels)[1])
  shapes = {_torch_name(path): _torch_shape(leaf.shape) for path, leaf in flat}
  if problems := _problems(tensors, shapes, max(levels)):
    fit = f'{origin} does not fit {architecture} with levels {tuple(levels)}:'
    raise ValueError(f'{fit} {"; ".join(problems)}')

  leaves = []
  for path, leaf in flat:
    value = np.asarray(tensors[_torch_name(path)], np.float32)
    if value.ndim == 4:
      value = np.ascontiguousarray(value.transpose(_OIHW_TO_HWIO))
    leaves.append((path, leaf.replace(value)))
  return nnx.from_flat_state(leaves)


def to_torch_names(state: nnx.State) -> dict[str, np.ndarray]:
  """Turns a backbone's state into tensors with torchvision's names.

  Args:
    state: As from `from_torch_names`, whose exact inverse this is.

  Returns:
    NumPy arrays in the state's type, kernels
    `[outputs, inputs, height, width]`.
  """
  tensors = {}
  for path, leaf in nnx.to_flat_state(state):
    value = np.asarray(leaf.get_value())
    if value.ndim == 4:
      value = np.ascontiguousarray(value.transpose(_HWIO_TO_OIHW))
    tensors[_torch_name(path)] = value
  return tensors


def _torch_name(path: tuple[Any, ...]) -> str:
  """Returns torchvision's name for the leaf at a path of the Flax state."""
  *module, leaf = path
  match module:
    case ['conv1' | 'bn1' as stem]:
      prefix = stem
    case ['layers', int(level), int(block), 'convs' | 'bns' as kind, int(i)]:
      prefix = f'layer{level + 1}.{block}.{kind[:-1]}{i + 1}'
    case ['layers', int(level), int(block), 'downsample', 'conv']:
      prefix = f'layer{level + 1}.{block}.downsample.0'
    case ['layers', int(level), int(block), 'downsample', 'bn']:
      prefix = f'layer{level + 1}.{block}.downsample.1'
    case _:
      raise AssertionError(f'no torch name for {path}')
  return f'{prefix}.{_LEAVES[leaf]}'


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  axes = _HWIO_TO_OIHW if len(shape) == 4 else range(len(shape))
  return tuple(shape[axis] for axis in axes)


def _problems(
  tensors: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  last_level: int,
) -> list[str]:
  """Describes, a line for each kind, how tensors differ from what is needed."""
  unbuilt = rf'layer[{last_level + 1}-4]\.|fc\.|.*\.num_batches_tracked$'
  problems = {
    'missing': [name for name in shapes if name not in tensors],
    'unexpected': [
      n for n in tensors if n not in shapes and not re.match(unbuilt, n)
    ],
    'wrong shape': [],
    'not floating point': [],
    'not finite in float32': [],
    'negative variance': [],
  }
  for name in shapes.keys() & tensors.keys():
    value, shape = tensors[name], shapes[name]
    if value.shape != shape:
      found = f'{name} (found {list(value.shape)}, expected {list(shape)})'
      problems['wrong shape'].append(found)
    elif not jnp.issubdtype(value.dtype, jnp.floating):
      problems['not floating point'].append(f'{name} ({value.dtype})')
    else:
      with np.errstate(over='ignore'):
        value = np.asarray(value, np.float32)
      if not np.isfinite(value).all():
        problems['not finite in float32'].append(name)
      elif name.endswith('.running_var') and value.min() < 0:
        problems['negative variance'].append(name)
  return [
    f'{kind} ({len(names)}): {kinds.summary(names)}'
    for kind, names in problems.items()
    if names
  ]
