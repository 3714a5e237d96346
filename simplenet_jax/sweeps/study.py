"""Sweeps that compare recipes with the reference; nothing imports jax."""

from collections.abc import Callable, Mapping
from typing import Any

from simplenet_jax.config import Config, flatten, from_protocol
from simplenet_jax.sweeps import settings


def _shrink(base: Config) -> None:
  """Makes a study one of small images and narrow heads."""
  base.data.resize, base.data.crop = 164, 144
  base.patch.pretrain_dim = base.patch.target_dim = base.head.hidden = 384
  base.precision = 'bfloat16'


def heads_of(protocol: Config, small: bool = False) -> dict[str, Any]:
  """Returns the settings of a protocol's heads, by field.

  Args:
    protocol: Its settings.
    small: Whether the images are small.
  """
  found = {
    field: value
    for field, value in flatten(protocol).items()
    if field.startswith(('train.', 'evaluation.every'))
  }
  if small:
    # Small images have fewer patches, of which as many are drawn.
    found |= {'train.epochs': 57, 'evaluation.every': 3}
  return found


def make(
  name: str,
  title: str,
  base: str | None,
  variants: Callable[[dict[str, Any], bool], Mapping[str, Mapping[str, Any]]],
) -> Config:
  """Returns the sweep of a study.

  Args:
    name: Of its files.
    title: What it shows.
    base: `reference` (default), `small`, `paper` or `demo`.
    variants: Returns them, by label, given the settings of the recipe's heads
      and whether the images are small.

  Raises:
    ValueError: For another base.
  """
  if base == 'fast':
    raise ValueError('fast is what is compared; choose another base')
  small = base == 'small'
  chosen = settings.base(None if small else base)
  if small:
    _shrink(chosen)
  fast = heads_of(from_protocol('fast'), small)
  return settings.sweep(
    name,
    title,
    chosen,
    {chosen.protocol: {}, **variants(fast, small)},
    view='gap',
  )
