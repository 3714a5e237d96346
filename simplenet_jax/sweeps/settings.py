"""The settings of a sweep: a base, and what its variants change.

Nothing here imports jax.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from simplenet_jax.config import (
  Config,
  check_config,
  flatten,
  from_protocol,
  load_config,
)

# What is shown beside the numbers; see `figures`.
VIEWS = (
  'table',
  'line',
  'categories',
  'losses',
  'deviations',
  'speed',
  'pictures',
  'versus_best_epoch',
)

# The paper's.
BACKBONES = ('resnet18', 'resnet50', 'resnet101', 'wide_resnet50_2')

# By label, the fields that a variant changes and their values.
Variants = Mapping[str, Mapping[str, Any]]

_LONGEST = 160  # Bytes of a directory's name; disks take 255.


def base(name: str | None = None) -> Config:
  """Returns `reference` (default) or `paper` on MVTec AD, or the demo."""
  return load_config('demo' if name == 'demo' else f'mvtec:{name or ""}')


def sweep(
  name: str,
  title: str,
  base: Config,
  variants: Variants,
  view: str = 'table',
  axis: str = '',
) -> Config:
  """Returns a sweep's settings.

  Runs leave no pictures, reports, scalars and (but for a view of speed)
  detectors, unless the command line asks for them.

  Args:
    name: Of its files, and of the published figures beside it, if there are
      any (`tables.PAPER`).
    title: What it shows.
    base: The settings of every run; `--config.base.<field>` sets them.
    variants: The first one is the baseline of `versus_best_epoch`.
    view: One of `VIEWS`.
    axis: The field along the horizontal axis of a line.
  """
  base.evaluation.pictures, base.evaluation.report = 0, False
  base.engine.tensorboard = False
  base.detector.save = view == 'speed'
  base.evaluation.course = view == 'versus_best_epoch'
  several = [set(changes) for changes in variants.values()]
  varied = set.intersection(*several) if several else set()
  return ConfigDict(
    {
      'name': name,
      'title': title,
      'view': view,
      'axis': axis,
      'only': '',  # Labels of the variants to run, as in '1,2+3'; empty: all.
      # Files of backbones' weights; empty: as base.backbone.weights says.
      'weights': dict.fromkeys(BACKBONES, ''),
      'base': base,
      # What all variants set: the base's own values have no say in them.
      'varied': tuple(
        (field, flatten(base).get(field)) for field in sorted(varied)
      ),
      'variants': tuple(
        (label, tuple(changes.items())) for label, changes in variants.items()
      ),
    }
  )


def study(
  name: str,
  title: str,
  base_name: str | None,
  variants: Callable[[dict[str, Any], bool], Variants],
) -> Config:
  """Returns a sweep that compares recipes with the best test epoch of a base.

  Args:
    name: Of its files.
    title: What it shows.
    base_name: `reference` (default), `small`, `paper` or `demo`.
    variants: Called with the fields of the recipe `fast` and whether the images
      are small.
  """
  if base_name == 'fast':
    raise ValueError('fast is what is compared; choose another base')
  small = base_name == 'small'
  chosen = base(None if small else base_name)
  fast = recipe_of('fast')
  if small:  # Small images and narrow heads.
    chosen.data.resize, chosen.data.crop = 164, 144
    chosen.patch.pretrain_dim = chosen.patch.target_dim = 384
    chosen.head.hidden = 384
    chosen.precision = 'bfloat16'
    # Small images have fewer patches, of which as many are drawn.
    fast |= {'train.epochs': 57, 'evaluation.every': 3}
  found = {chosen.protocol: {}, **variants(fast, small)}
  return sweep(name, title, chosen, found, view='versus_best_epoch')


def recipe_of(protocol: str) -> dict[str, Any]:
  """Returns the fields that say how a protocol trains heads."""
  return {
    field: value
    for field, value in flatten(from_protocol(protocol)).items()
    if field.startswith(('train.', 'evaluation.every'))
  }


def expand(config: Config) -> dict[str, Config]:
  """Returns the settings of every run, by label.

  Raises:
    ValueError: If a setting is out of range, a label of `only` or a field of a
      variant unknown, or two variants are the same.
  """
  _check(config)
  labels = [label for label, _ in config.variants]
  only = [label.strip() for label in config.only.split(',') if label.strip()]
  if unknown := [label for label in only if label not in labels]:
    raise ValueError(
      f'--config.only has {", ".join(unknown)}; choose of {", ".join(labels)}'
    )
  runs, names = {}, {}
  for label, changes in config.variants:
    if only and label not in only:
      continue
    run = config.base.copy_and_resolve_references()
    with run.unlocked():
      run.update_from_flattened_dict(dict(changes))
    if file := config.weights.get(run.backbone.name, ''):
      run.backbone.weights = file
    check_config(run)
    runs[label] = run
    other = names.setdefault(folder(config, label, run), label)
    if other != label:
      raise ValueError(
        f'{other} and {label} have the same settings; leave one of them out '
        'with --config.only'
      )
  return runs


def _check(config: Config) -> None:
  if 'variants' not in config:
    raise ValueError(
      f'{config.name} is the config of one run: python -m simplenet_jax.main'
    )
  if config.view not in VIEWS:
    raise ValueError(
      f'view is {config.view!r}; choose one of {", ".join(VIEWS)}'
    )
  known = flatten(config.base)
  changed = {field for _, some in config.variants for field, _ in some}
  for field in sorted(changed):
    if field not in known:
      raise ValueError(f'a variant changes {field}, which there is not')
  axis = known.get(config.axis)
  if config.view == 'line' and not isinstance(axis, (int, float)):
    raise ValueError(f'axis is {config.axis!r}, which is no number of a run')
  for field, value in config.varied:
    if known[field] != value:
      raise ValueError(
        f'--config.base.{field} is what this sweep varies; choose of its '
        'variants with --config.only, or write a config with others'
      )


def folder(config: Config, label: str, run: Config) -> str:
  """Returns the name of a run's directory: what it changes in the base.

  Runs of several sweeps that have the same settings so have the same name, and
  are trained once. A long name is a digest.
  """
  before, changes = flatten(config.base), dict(dict(config.variants)[label])
  parts = [
    f'{field}={_as_name(value)}'
    for field, value in flatten(run).items()
    if value != before[field]
    # The files of `weights` are where the same weights lie.
    and (field != 'backbone.weights' or field in changes)
  ]
  name = ','.join(parts) or 'base'
  if len(name.encode()) <= _LONGEST:
    return name
  digest = hashlib.sha256(name.encode()).hexdigest()[:12]
  return f'{len(parts)} settings, {digest}'


def _as_name(value: Any) -> str:
  several = isinstance(value, (tuple, list))
  text = '+'.join(map(str, value)) if several else str(value)
  return text.replace('/', '_')
