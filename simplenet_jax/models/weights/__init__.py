"""Pretrained backbone weights: found, read, checked and folded.

The files carry torchvision's tensor names, as timm's ResNets do. Loading is
strict: every tensor of the network is filled, and every tensor of the file is
used or known to belong to a part that is not built.

`simplenet weights --weights=FILE` tells what a file is.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from simplenet_jax.models import resnet
from simplenet_jax.models.weights import files

Tensors = Mapping[str, np.ndarray]

# The noise level of the paper (sigma = .015) belongs to torchvision's first
# ImageNet weights, which are these; other weights have another feature scale.
DEFAULT_WEIGHTS = {
  **{name: f'timm/{name}.tv_in1k' for name in resnet.ARCHITECTURES},
  'demo_resnet': 'demo',
}

V1 = "torchvision's V1"
V2 = "torchvision's V2"
UNKNOWN = 'unknown'
# How the sha256 of torchvision's files begin.
_CHECKSUMS = {
  'f37072fd': V1,  # resnet18
  '0676ba61': V1,  # resnet50
  '63fe2227': V1,  # resnet101
  '95faca4d': V1,  # wide_resnet50_2
  '11ad3fa6': V2,  # resnet50
  'cd907fc2': V2,  # resnet101
  '9ba9bcbe': V2,  # wide_resnet50_2
}
_TAGS = {'tv_in1k': V1, 'tv2_in1k': V2}  # Of timm's names on the hub.

# The paper's sigma, and how widely the features of V1 ResNet18 spread on
# photographs of parts, by level: of two images each of four categories, between
# .7 and 1.3 times as widely. Other weights' are told from a factor of 2 on.
_SIGMA = 0.015
_SPREADS = {1: 0.30, 2: 0.20, 3: 0.14}
_TOLERANCE = 2.0


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights that fit a network, folded, and where they came from."""

  state: dict[str, np.ndarray]
  path: Path
  sha256: str
  name: str  # The source as asked for.
  recipe: str = UNKNOWN  # Their training: V1, V2, UNKNOWN or other words.
  warnings: tuple[str, ...] = ()  # Where the noise may not fit.

  @property
  def other(self) -> str:
    """The recipe if it is known not to be the method's, else empty."""
    return '' if self.recipe in (V1, UNKNOWN) else self.recipe


def load(
  source: str, architecture: str, levels: Sequence[int], probe: bool = False
) -> Weights:
  """Loads a backbone's weights, see `files.locate`, and folds them.

  Raises:
    FileNotFoundError: If there is no such file, or it cannot be downloaded.
    ValueError: If the file cannot be read or does not fit the network.
  """
  path = files.locate(source, files.FLAG)
  tensors, sha256 = files.read(path)
  check(tensors, architecture, levels, str(path))
  state = resnet.fold(tensors, architecture, levels, probe)
  recipe = identify(source, architecture, sha256, tensors)
  return Weights(state, path, sha256, source, recipe)


def identify(
  source: str, architecture: str, sha256: str, tensors: Tensors
) -> str:
  """Returns whose training weights come from, as far as it is known."""
  classes = np.shape(tensors.get('fc.weight', 0))[:1]
  if architecture != 'demo_resnet' and classes not in ((), (1000,)):
    return f'fine-tuned to {classes[0]} classes'
  if recipe := _CHECKSUMS.get(sha256[:8]):
    return recipe
  if not files.on_hub(source):
    return UNKNOWN
  owner, repository = source.split('/')
  tag = repository.partition('.')[2] if owner == 'timm' else ''
  return _TAGS.get(tag, f"{owner}'s {tag or repository}")


def recognise(tensors: Tensors) -> list[str]:
  """Returns the architectures that tensors, whole or not, can belong to."""
  stem, inner = (
    np.shape(tensors.get(name, 0))[:1]
    for name in ('conv1.weight', 'layer1.0.conv1.weight')
  )
  blocks = set(re.findall(r'(?m)^layer([123])\.(\d+)\.', '\n'.join(tensors)))
  bottleneck = any(
    re.match(r'layer[123]\.\d+\.conv3', name) for name in tensors
  )
  depths = [sum(level == str(i) for level, _ in blocks) for i in (1, 2, 3)]
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
  tensors: Tensors,
  architecture: str,
  levels: Sequence[int],
  origin: str = 'the given tensors',
) -> None:
  """Raises a ValueError that names all that does not fit a network."""
  actual = recognise(tensors)
  if actual and architecture not in actual:
    choice = f'={actual[0]}' if len(actual) == 1 else ''
    raise ValueError(
      f'{origin} is a {" or ".join(actual)}, expected {architecture}; set '
      f'--config.backbone.name{choice} or {files.FLAG}'
    )
  shapes = {}
  for layer, _, (size, _, inputs, outputs) in resnet.layers(
    architecture, levels
  ):
    kernel, norm = resnet.torch_names(layer)
    shapes[kernel] = (outputs, inputs, size, size)
    for leaf in resnet.NORM_LEAVES:
      shapes[f'{norm}.{leaf}'] = (outputs,)
  found = collections.defaultdict(list)
  unbuilt = rf'layer[{max(levels) + 1}-4]\.|fc\.|.*\.num_batches_tracked$'
  for name in sorted(shapes.keys() | tensors.keys()):
    kind, details = _problem(name, tensors.get(name), shapes.get(name))
    if kind and not (kind == 'unexpected' and re.match(unbuilt, name)):
      found[kind].append(name + details)
  if found:
    hint = '' if actual else ', nor is it another ResNet that is built here'
    told = '; '.join(
      f'{kind} ({len(names)}): {", ".join(names[:3])}'
      + (f' and {len(names) - 3} more' if len(names) > 3 else '')
      for kind, names in found.items()
    )
    raise ValueError(
      f'{origin} does not fit {architecture} with levels {tuple(levels)}{hint}:'
      f' {told}'
    )


def _problem(
  name: str, value: np.ndarray | None, shape: tuple[int, ...] | None
) -> tuple[str, str]:
  """Returns what kind of problem a tensor has, or '', and its details."""
  if value is None:
    return 'missing', ''
  if shape is None:
    return 'unexpected', ''
  if value.shape != shape:
    sides = f' (found {list(value.shape)}, expected {list(shape)})'
    return 'wrong shape', sides
  if not jnp.issubdtype(value.dtype, jnp.floating):
    return 'not floating point', f' ({value.dtype})'
  with np.errstate(over='ignore'):
    value = np.asarray(value, np.float32)
  if not np.isfinite(value).all():
    return 'not finite in float32', ''
  if name.endswith('.running_var') and value.min() < 0:
    return 'negative variance', ''
  return '', ''


def misfit(
  weights: Weights,
  architecture: str,
  levels: Sequence[int],
  sigma: float | None,
  features: Callable[[], Sequence[Any]],
) -> str:
  """Says if the method's noise does not fit weights; empty if it does.

  Sigma is None where it follows the features' spread.
  """
  first = DEFAULT_WEIGHTS.get(architecture, V1)
  if weights.other:
    also = '' if sigma is None else f' and its sigma, {_SIGMA},'
    return (
      f"these weights are {weights.other}; the method's figures{also} belong "
      f'to {V1} ({first})'
    )
  # The demo's backbone has a sigma of its own.
  known = weights.recipe == V1 or architecture == 'demo_resnet'
  if known or sigma is None:
    return ''
  variances = [np.var(np.asarray(x), (0, 1, 2), np.float64) for x in features()]
  spread = np.sqrt(np.concatenate(variances).mean())
  if not 0 < spread < np.inf:
    return 'their features do not vary, or are infinite: not trained weights'
  wider = spread / np.sqrt(np.mean([_SPREADS[level] ** 2 for level in levels]))
  fitting = _SIGMA * wider
  if max(wider, 1 / wider) <= _TOLERANCE:
    return ''
  if max(sigma / fitting, fitting / sigma) <= _TOLERANCE:
    return ''
  return (
    f'features spread {wider:.2g} times as wide as is usual for {V1}, which '
    f'sigma {_SIGMA} belongs to; --config.train.sigma={fitting:.2g} would be '
    'as much noise for these'
  )
