"""What there is to say of a file of weights."""

import collections
import re
from collections.abc import Mapping, Sequence

import numpy as np
from flax import nnx

from simplenet_jax.models import resnet
from simplenet_jax.models.weights import kinds, scale, variants
from simplenet_jax.models.weights.names import from_torch_names

_STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


def check(tensors: Mapping[str, np.ndarray], origin: str) -> nnx.State:
  """Returns the state of the network that tensors hold, all levels there are.

  Args:
    tensors: With torchvision's names.
    origin: Where they come from, for error messages.

  Raises:
    ValueError: If they are those of no network, or damaged: all problems.
  """
  if objection := kinds.objection(tensors, None):
    raise ValueError(f'{origin} {objection}')
  architecture = kinds.recognise(tensors)[0]
  return from_torch_names(tensors, architecture, levels(tensors), origin)


def levels(tensors: Mapping[str, np.ndarray]) -> tuple[int, ...]:
  """Returns the levels that tensors reach, in ascending order."""
  found = [
    level
    for level in resnet.LEVELS
    if any(name.startswith(f'layer{level}.') for name in tensors)
  ]
  return resnet.LEVELS[: max(found, default=1)]


def parameters(
  tensors: Mapping[str, np.ndarray], last_level: int | None = None
) -> int:
  """Counts trainable parameters, without BatchNorm's statistics.

  Args:
    tensors: With torchvision's names.
    last_level: Count up to this level; None: layer4 and classifier as well.
  """
  above = rf'layer[{last_level + 1}-4]\.|fc\.' if last_level else r'(?!)'
  return sum(
    value.size
    for name, value in tensors.items()
    if not name.endswith(_STATISTICS) and not re.match(above, name)
  )


def describe(
  tensors: Mapping[str, np.ndarray],
  state: nnx.State,
  variant: variants.Variant,
  sha256: str,
) -> str:
  """Describes weights, a fact in each line.

  Args:
    tensors: With torchvision's names, as they are in the file.
    state: From `check`.
    variant: Of the weights.
    sha256: Of the file.
  """
  reached = levels(tensors)
  types = collections.Counter(str(value.dtype) for value in tensors.values())
  kept = ', '.join(f'{count} {name}' for name, count in types.items())
  size = sum(value.nbytes for value in tensors.values())
  lines = {
    'network': ' or '.join(kinds.recognise(tensors)),
    'levels': ', '.join(map(str, reached)),
    'recipe': variant.recipe or 'unknown, no file of torchvision by checksum',
    'sha256': sha256,
    'tensors': f'{len(tensors)} ({kept}), {size / 1e6:.1f} MB',
    'parameters': f'{parameters(tensors):,}, '
    f'{parameters(tensors, reached[-1]):,} from the stem to '
    f'layer{reached[-1]}',
    'classifier': _classifier(variant.classes),
    'BatchNorm': 'changes nothing: folded into the convolutions, or untrained'
    if _folded(tensors)
    else 'with its statistics',
    'features': _features(state, variant, reached),
  }
  return '\n'.join(f'  {name:<11} {text}' for name, text in lines.items())


def _classifier(classes: int) -> str:
  if not classes:
    return 'none'
  if classes == variants.IMAGENET:
    return f"{classes} classes, ImageNet's"
  return (
    f"{classes} classes, ImageNet's has {variants.IMAGENET}: fine-tuned on "
    'other images'
  )


def _folded(tensors: Mapping[str, np.ndarray]) -> bool:
  """Returns whether no BatchNorm does more than add its bias."""
  norms = [n[:-4] for n in tensors if n.endswith('running_mean')]
  neutral = {'running_mean': 0.0, 'running_var': 1.0, 'weight': 1.0}
  return all(
    np.allclose(np.asarray(tensors[norm + leaf], float), value, atol=1e-3)
    for norm in (n.removesuffix('running_') for n in norms)
    for leaf, value in neutral.items()
  )


def _features(
  state: nnx.State, variant: variants.Variant, reached: Sequence[int]
) -> str:
  if not scale.has_reference(variant.architecture):
    return 'not compared, there are no V1 weights of this network'
  used = (2, 3) if 3 in reached else tuple(reached)
  spread = scale.relative(state, variant.architecture, used)
  return (
    f'of levels {"+".join(map(str, used))} spread {spread:.2f} times as wide '
    f"as those of torchvision's V1 ResNet18; sigma "
    f'{scale.fitting_sigma(spread):.2g} is as much noise for them as '
    f'{scale.SIGMA} for those'
  )
