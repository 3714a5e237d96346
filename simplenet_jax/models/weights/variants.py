"""Which training weights come from, and whether the noise fits them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import logging
from flax import nnx

from simplenet_jax.models.weights import files, scale

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
IMAGENET = 1000  # classes


@dataclasses.dataclass(frozen=True)
class Variant:
  """What is known of a file of weights beside its tensors.

  Attributes:
    name: The source as it was asked for.
    architecture: A key of `resnet.ARCHITECTURES`.
    recipe: Whose weights they are: `V1`, `V2` or other words; empty: unknown.
    classes: Outputs of the file's classifier; 0: it has none.
  """

  name: str
  architecture: str
  recipe: str = ''
  classes: int = 0

  @property
  def known(self) -> str:
    """What they are known to be, or `UNKNOWN`."""
    return self.other or self.recipe or UNKNOWN

  @property
  def other(self) -> str:
    """What is known not to be the method's weights; empty: nothing is."""
    if self.recipe not in ('', V1):
      return self.recipe
    images = scale.has_reference(self.architecture)
    if images and self.classes not in (0, IMAGENET):
      return f'fine-tuned to {self.classes} classes'
    return ''


def identify(
  name: str, architecture: str, sha256: str, tensors: Mapping[str, np.ndarray]
) -> Variant:
  """Tells a variant by checksum, name on the hub and classifier.

  Args:
    name: The source as it was asked for.
    architecture: A key of `resnet.ARCHITECTURES`.
    sha256: Of the file.
    tensors: With torchvision's names.
  """
  recipe = _CHECKSUMS.get(sha256[:8], '')
  if not recipe and files.on_hub(name):
    owner, repository = name.split('/')
    tag = repository.partition('.')[2] if owner == 'timm' else ''
    recipe = _TAGS.get(tag, f"{owner}'s {tag or repository}")
  shape = np.shape(tensors.get('fc.weight', ()))
  return Variant(name, architecture, recipe, shape[0] if len(shape) == 2 else 0)


def warn(
  variant: Variant, state: nnx.State, levels: Sequence[int], sigma: float | None
) -> tuple[str, ...]:
  """Warns, in one line each, where the method's noise may not fit weights.

  Nothing is said of the demo's backbone, which has a sigma of its own, nor of
  the spread of V1 weights, which need not be measured.

  Args:
    variant: Of the weights.
    state: From `weights.load`, before any probe.
    levels: The levels in use, ascending.
    sigma: Of the run's noise; None if it follows the features' spread.

  Returns:
    The lines.
  """
  if not scale.has_reference(variant.architecture):
    return ()
  lines = tuple(_misfits(variant, state, levels, sigma))
  for line in lines:
    logging.warning('%s: %s', variant.name, line)
  return lines


def _misfits(
  variant: Variant, state: nnx.State, levels: Sequence[int], sigma: float | None
) -> Iterator[str]:
  if variant.recipe not in ('', V1):
    first = f'timm/{variant.architecture}.tv_in1k'
    also = '' if sigma is None else f' and its sigma, {scale.SIGMA},'
    yield (
      f"these are {variant.recipe} weights; the method's figures{also} belong "
      f'to {V1} ({first})'
    )

  if variant.classes not in (0, IMAGENET):
    yield (
      f"its classifier has {variant.classes} classes, ImageNet's has "
      f'{IMAGENET}: fine-tuned on other images; the method expects features '
      'of ImageNet'
    )
  if variant.recipe != V1:
    yield from _misfit(variant, state, levels, sigma)


def _misfit(
  variant: Variant, state: nnx.State, levels: Sequence[int], sigma: float | None
) -> Iterator[str]:
  """Says if the noise would be much too weak or too strong, and what would fit.

  Sigma is the user's to vary where features spread as V1's do.
  """
  spread = scale.relative(state, variant.architecture, levels)
  if not 0 < spread < np.inf:
    yield 'its features do not vary, or are infinite: not trained weights'
    return
  if sigma is None:
    return
  fitting = scale.fitting_sigma(spread)
  if scale.alike(spread, 1) or scale.alike(fitting, sigma):
    return
  known = variant.architecture == 'resnet18'
  unless = '' if known else ', unless they are V1 weights in another file'
  yield (
    f'features spread {spread:.2g} times as wide as those of {V1} ResNet18, '
    f'which sigma {scale.SIGMA} belongs to; --config.train.sigma={fitting:.2g} '
    f'would be as much noise for these{unless}'
  )
