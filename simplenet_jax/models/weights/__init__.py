"""Pretrained backbone weights: found, read, checked and folded.

The files carry torchvision's tensor names, as timm's ResNets do. Loading is
strict: every tensor of the network is filled, and every tensor of the file is
used or known to belong to a part that is not built.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.console import console
from simplenet_jax.models import backbone
from simplenet_jax.models.architectures import RESNETS
from simplenet_jax.models.weights import files

Tensors = Mapping[str, np.ndarray]

# The noise level of the paper (sigma = .015) belongs to torchvision's first
# ImageNet weights, which are these; other weights have another feature scale.
DEFAULT_WEIGHTS = {
  **{name: f'timm/{name}.tv_in1k' for name in RESNETS},
  'efficientnet_lite0': 'efficientnet_lite0',
}

V1 = "torchvision's V1"
V2 = "torchvision's V2"
UNKNOWN = 'unknown'
# How the sha256 of torchvision's files begin: of resnet50, resnet101 and
# wide_resnet50_2, and of resnet18, which has no second weights.
_CHECKSUMS = {
  V1: ('0676ba61', '63fe2227', '95faca4d', 'f37072fd'),
  V2: ('11ad3fa6', 'cd907fc2', '9ba9bcbe'),
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
  def about(self) -> dict[str, Any]:
    """What results tell of them."""
    told = ('name', 'sha256', 'recipe', 'warnings')
    return {n: getattr(self, n) for n in told} | {'path': str(self.path)}

  @property
  def other(self) -> str:
    """The recipe if it is known not to be the method's, else empty."""
    return '' if self.recipe in (V1, UNKNOWN) else self.recipe


def name_backbone(
  config: Config, earlier: Mapping[str, Any] | None = None
) -> Config:
  """Returns a config that names its backbone, and its images per pass.

  Where it says `auto`, or 0 images, they are those of an `earlier` start of the
  run, else the network that the weights fit, else what suits the device. Raises
  ValueError if the weights fit no network that is built here.
  """
  named, earlier = config.copy_and_resolve_references(), earlier or {}
  on_cpu = jax.default_backend() == 'cpu'
  if not named.backbone.batch_size:
    suited = 8 if on_cpu else 32
    named.backbone.batch_size = earlier.get('batch_size', suited)
  if config.backbone.name != 'auto':
    return named
  name, source = earlier.get('name'), config.backbone.weights
  if not name and source:
    path, levels = files.locate(source), config.backbone.levels
    tensors, _ = files.read(path)
    every = backbone.ARCHITECTURES
    fitting = [one for one in every if not _mismatches(tensors, one, levels)]
    if not fitting:
      raise ValueError(
        f'{path} fits none of {", ".join(every)}; give other {files.FLAG}, or '
        '--config.backbone.name to see what does not fit'
      )
    name = fitting[0]
  if not name and not on_cpu:
    name = 'wide_resnet50_2'
  elif not name:
    name = files.IN_THE_BOX
    console.print(
      f'Uses the backbone {name}, as there is no accelerator. Larger ones are '
      'often more accurate and slower: resnet18 takes 6 times as many '
      'operations for an image, wide_resnet50_2 38 times '
      '(--config.backbone.name=...)'
    )
  named.backbone.name = name
  return named


def load(
  source: str, architecture: str, levels: Sequence[int], probe: bool = False
) -> Weights:
  """Loads a backbone's weights, see `files.locate`, and folds them."""
  path = files.locate(source)
  tensors, sha256 = files.read(path)
  check(tensors, architecture, levels, str(path))
  state = backbone.fold(tensors, architecture, levels, probe)
  recipe = identify(source, architecture, sha256, tensors)
  return Weights(state, path, sha256, source, recipe)


def identify(
  source: str, architecture: str, sha256: str, tensors: Tensors
) -> str:
  """Returns whose training weights come from, as far as it is known."""
  last = tensors.get('fc.weight', tensors.get('_fc.weight', 0))
  classes = np.shape(last)[:1]
  if classes not in ((), (1000,)):
    return f'fine-tuned to {classes[0]} classes'
  for recipe, checksums in _CHECKSUMS.items():
    if sha256.startswith(checksums):
      return recipe
  if not files.on_hub(source):
    return UNKNOWN
  owner, repository = source.split('/')
  tag = repository.partition('.')[2] if owner == 'timm' else ''
  return _TAGS.get(tag, f"{owner}'s {tag or repository}")


def check(
  tensors: Tensors, architecture: str, levels: Sequence[int], origin: str
) -> None:
  """Raises a ValueError that names all that does not fit a network."""
  found = _mismatches(tensors, architecture, levels)
  if not found:
    return
  for other in backbone.ARCHITECTURES:
    if not _mismatches(tensors, other, levels):
      raise ValueError(
        f'{origin} is a {other}, expected {architecture}; set '
        f'--config.backbone.name={other} or {files.FLAG}'
      )
  told = '; '.join(
    f'{kind} ({len(names)}): {", ".join(names[:3])}'
    + (f' and {len(names) - 3} more' if len(names) > 3 else '')
    for kind, names in found.items()
  )
  raise ValueError(
    f'{origin} does not fit {architecture} with levels {tuple(levels)}, nor '
    f'another network that is built here: {told}'
  )


def _mismatches(
  tensors: Tensors, architecture: str, levels: Sequence[int]
) -> dict[str, list[str]]:
  """Returns the tensors that do not fit a network, by kinds of problems."""
  spec, shapes = backbone.ARCHITECTURES[architecture], {}
  # A file may end with the last level that its user needs, or go on.
  reached = {*levels, *spec.reached(tensors)}
  for layer, _, (size, _, inputs, outputs) in spec.layers(reached):
    kernel, norm = spec.torch_names(layer)
    shapes[kernel] = (outputs, inputs, size, size)
    for leaf in backbone.NORM_LEAVES:
      shapes[f'{norm}.{leaf}'] = (outputs,)
  found = collections.defaultdict(list)
  for name in sorted(shapes.keys() | tensors.keys()):
    if re.match(rf'{spec.unbuilt}|.*\.num_batches_tracked$', name):
      continue
    value, shape = tensors.get(name), shapes.get(name)
    if value is None or shape is None:
      found['missing' if value is None else 'unexpected'].append(name)
    elif value.shape != shape:
      sides = f' (found {list(value.shape)}, expected {list(shape)})'
      found['wrong shape'].append(name + sides)
    elif not jnp.issubdtype(value.dtype, jnp.floating):
      found['not floating point'].append(f'{name} ({value.dtype})')
    else:
      with np.errstate(over='ignore'):
        numbers = np.asarray(value, np.float32)
      if not np.isfinite(numbers).all():
        found['not finite in float32'].append(name)
      elif name.endswith('.running_var') and numbers.min() < 0:
        found['negative variance'].append(name)
  return found


def misfit(
  config: Config, weights: Weights, features: Callable[[], Sequence[Any]]
) -> str:
  """Says if the method's noise does not fit weights; empty if it does."""
  backbone, sigma = config.backbone, config.train.sigma
  is_relative = config.train.noise == 'relative'  # To the features' spread.
  if weights.other:
    also = '' if is_relative else f' and its sigma, {_SIGMA},'
    return (
      f"these weights are {weights.other}; the method's figures{also} belong "
      f'to {V1} ({DEFAULT_WEIGHTS[backbone.name]})'
    )
  if weights.recipe == V1 or is_relative:
    return ''
  variances = [np.var(np.asarray(x), (0, 1, 2), np.float64) for x in features()]
  spread = np.sqrt(np.concatenate(variances).mean())
  if not 0 < spread < np.inf:
    return 'their features do not vary, or are infinite: not trained weights'
  usual = [_SPREADS[level] ** 2 for level in backbone.levels]
  wider = spread / np.sqrt(np.mean(usual))
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
