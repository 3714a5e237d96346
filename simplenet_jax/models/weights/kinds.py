"""Which network a file of tensors holds, told by its names and shapes."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from simplenet_jax.models import resnet

# Networks of torchvision that are not built here, to be called by their names.
_OTHERS = {
  'resnet34': resnet.Architecture(bottleneck=False, depths=(3, 4, 6)),
  'resnet152': resnet.Architecture(bottleneck=True, depths=(3, 8, 36)),
  'wide_resnet101_2': resnet.Architecture(
    bottleneck=True, depths=(3, 4, 23), inner_factor=2
  ),
}
_STEM, _FIRST = 'conv1.weight', 'layer1.0.conv1.weight'
_SHOWN = 3  # names in an error message


def recognise(tensors: Mapping[str, np.ndarray]) -> list[str]:
  """Returns the architectures that tensors can belong to, maybe none.

  Args:
    tensors: With torchvision's names; kernels
      `[outputs, inputs, height, width]`.

  Returns:
    Keys of `resnet.ARCHITECTURES`. A file that ends early can belong to
    several; one with missing or damaged tensors still belongs to its own.
  """
  return _fitting(tensors, resnet.ARCHITECTURES)


def objection(
  tensors: Mapping[str, np.ndarray], architecture: str | None
) -> str | None:
  """Says what else tensors are, if they are no such network.

  Args:
    tensors: As for `recognise`.
    architecture: What they should be, a key of `resnet.ARCHITECTURES`; None:
      any of them.

  Returns:
    A predicate for the file, with the flag to set; None if its tensors are of
    that network as far as this can tell.
  """
  if foreign := _foreign(tensors):
    return f'{foreign}; expected a ResNet with the names of torchvision'
  actual = recognise(tensors)
  if actual and architecture and architecture not in actual:
    choice = f'={actual[0]}' if len(actual) == 1 else ''
    return (
      f'is a {" or ".join(actual)}, expected {architecture}; set '
      f'--config.backbone.name{choice} or --config.backbone.weights'
    )
  expected = architecture or 'one of ' + ', '.join(resnet.ARCHITECTURES)
  if not actual and (others := _fitting(tensors, _OTHERS)):
    return f'is a {others[0]}, which is not built here; expected {expected}'
  if not actual and not architecture:
    found = ', '.join(
      f'{name} {list(_shape(tensors, name))}' for name in (_STEM, _FIRST)
    )
    return f'has blocks or shapes of no ResNet ({found}); expected {expected}'
  return None


def _fitting(
  tensors: Mapping[str, np.ndarray],
  architectures: Mapping[str, resnet.Architecture],
) -> list[str]:
  stem, inner = (_shape(tensors, name)[:1] for name in (_STEM, _FIRST))
  blocks = re.findall(r'layer([123])\.(\d+)\.(\w+)', '\n'.join(tensors))
  bottleneck = any(part == 'conv3' for _, _, part in blocks)
  depths = [len({b for at, b, _ in blocks if at == str(i)}) for i in (1, 2, 3)]
  return [
    name
    for name, spec in architectures.items()
    if spec.bottleneck == bottleneck
    and stem in ((), (spec.width,))
    and inner in ((), (spec.width * spec.inner_factor,))
    # A file may end with the last layer that its user needs.
    and all(n in (0, of) for n, of in zip(depths, spec.depths, strict=True))
  ]


def _foreign(tensors: Mapping[str, np.ndarray]) -> str | None:
  """Describes tensors that belong to another family of networks."""
  if not tensors:
    return 'holds no tensors'
  if 'conv1.0.weight' in tensors:
    return (
      'has a stem of several convolutions (conv1.0.weight), as the ResNets "d" '
      'and "t" of timm'
    )
  if _STEM not in tensors and _FIRST not in tensors:
    return _unnamed(tensors)
  kernels = {
    name: _shape(tensors, name)
    for name in tensors
    if re.fullmatch(r'layer\d+\.\d+\.conv2\.weight', name)
  }
  # One odd kernel is damage, an odd network has them in every block.
  if kernels and all(s[1:2] < s[:1] for s in kernels.values()):
    name, shape = min(kernels.items())
    return (
      f'has grouped convolutions ({name} is {list(shape)}), as a ResNeXt has'
    )
  if gates := sorted(n for n in tensors if '.se.' in n):
    return f'has squeeze-and-excitation blocks ({gates[0]})'
  return None


def _unnamed(tensors: Mapping[str, np.ndarray]) -> str:
  """Describes tensors of which none has the first names of a ResNet."""
  prefixed = [name for name in tensors if name.endswith(f'.{_FIRST}')]
  if len(prefixed) == 1:
    prefix = prefixed[0].removesuffix(_FIRST)
    others = [name for name in tensors if not name.startswith(prefix)]
    known = f'; others do not: {summary(others)}' if others else ''
    return f'has names that begin with {prefix}, to be taken off{known}'
  return (
    f'is not a ResNet of torchvision: no conv1.weight among {summary(tensors)}'
  )


def summary(names: Mapping[str, object] | Sequence[str]) -> str:
  """Lists the first few of some names, and how many more there are."""
  rest = len(names) - _SHOWN
  more = f' and {rest} more' if rest > 0 else ''
  return f'{", ".join(sorted(names)[:_SHOWN])}{more}'


def _shape(tensors: Mapping[str, np.ndarray], name: str) -> tuple[int, ...]:
  return tensors[name].shape if name in tensors else ()
