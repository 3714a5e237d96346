"""Which network a file of tensors holds, and whether it is whole."""

import re
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from simplenet_jax.models import resnet
from simplenet_jax.models.weights.files import FLAG


def recognise(tensors: Mapping[str, np.ndarray]) -> list[str]:
  """Returns the architectures that tensors can belong to, maybe none.

  A file that ends early can belong to several; one with missing or damaged
  tensors still belongs to its own.
  """
  stem, inner = (
    np.shape(tensors.get(name, 0))[:1]
    for name in ('conv1.weight', 'layer1.0.conv1.weight')
  )
  layer = re.compile(r'^layer([123])\.(\d+)\.(\w+)', re.MULTILINE)
  blocks = layer.findall('\n'.join(tensors))
  bottleneck = any(part == 'conv3' for _, _, part in blocks)
  depths = [len({b for at, b, _ in blocks if at == str(i)}) for i in (1, 2, 3)]
  if not (blocks or stem):
    return []
  return [
    name
    for name, spec in resnet.ARCHITECTURES.items()
    if spec.bottleneck == bottleneck
    and stem in ((), (spec.width,))
    and inner in ((), (spec.width * spec.inner_factor,))
    # A file may end with the last layer that its user needs.
    and all(n in (0, of) for n, of in zip(depths, spec.depths, strict=True))
  ]


def check(
  tensors: Mapping[str, np.ndarray],
  architecture: str,
  levels: Sequence[int],
  origin: str = 'the given tensors',
) -> None:
  """Raises if tensors do not fit a network.

  Args:
    tensors: Arrays of any floating type, with torchvision's names.
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: In use.
    origin: Where the tensors come from, for error messages.

  Raises:
    ValueError: If the tensors are another network's, or naming all that are
      missing, unexpected, of another shape or kind, or not finite.
  """
  actual = recognise(tensors)
  if actual and architecture not in actual:
    choice = f'={actual[0]}' if len(actual) == 1 else ''
    raise ValueError(
      f'{origin} is a {" or ".join(actual)}, expected {architecture}; set '
      f'--config.backbone.name{choice} or {FLAG}'
    )
  if problems := _problems(tensors, _shapes(architecture, levels), max(levels)):
    hint = '' if actual else ', nor is it another ResNet that is built here'
    raise ValueError(
      f'{origin} does not fit {architecture} with levels {tuple(levels)}{hint}:'
      f' {"; ".join(problems)}'
    )


def _shapes(architecture: str, levels: Sequence[int]):
  """Returns the shape of every tensor needed, by torchvision's name."""
  shapes = {}
  for layer, _, (size, _, inputs, outputs) in resnet.layers(
    architecture, levels
  ):
    kernel, norm = resnet.torch_names(layer)
    shapes[kernel] = (outputs, inputs, size, size)
    for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
      shapes[f'{norm}.{leaf}'] = (outputs,)
  return shapes


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
    f'{kind} ({len(names)}): {_summary(names)}'
    for kind, names in problems.items()
    if names
  ]


def _summary(names: Sequence[str]) -> str:
  shown, rest = sorted(names)[:3], len(names) - 3
  return ', '.join(shown) + (f' and {rest} more' if rest > 0 else '')
