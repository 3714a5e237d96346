"""The settings of a sweep: a base, and what its variants change.

Nothing here imports jax.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from simplenet_jax.config import Config, check_config, flatten, load_config

# What is shown beside the numbers; see `tables.draw`.
VIEWS = ('table', 'line', 'categories', 'losses', 'deviations', 'speed')
VIEWS += ('pictures',)
BACKBONES = ('resnet18', 'resnet50', 'resnet101', 'wide_resnet50_2')

# By label, the fields that a variant changes and their values.
Variants = Mapping[str, Mapping[str, Any]]

_LONGEST = 160  # Bytes of a directory's name; disks take 255.


def base(name: str | None = None) -> Config:
  """Returns `reference` (default) or `paper` on MVTec AD, or the demo."""
  return load_config('demo:fast' if name == 'demo' else f'mvtec:{name or ""}')


def sweep(
  name: str,
  title: str,
  base: Config,
  variants: Variants,
  view: str = 'table',
  axis: str = '',
  paper: Mapping[str, tuple[float, float]] | None = None,
) -> Config:
  """Returns a sweep's settings.

  Runs leave no pictures, pages, scalars and detectors, unless the view, one of
  `VIEWS`, or the command line asks for them. `axis` is the field along the
  horizontal axis of a line, `paper` what the paper gives variants: image and
  pixel AUROC in percent.
  """
  base.evaluation.pictures = 8 if view == 'pictures' else 0
  base.evaluation.report = False
  base.engine.tensorboard = False
  base.detector.save = view == 'speed'
  varied = set.intersection(*map(set, variants.values())) if variants else ()
  settings = {
    'name': name,
    'title': title,
    'view': view,
    'axis': axis,
    'only': '',  # Labels of the variants to run, as in '1,2+3'; empty: all.
    # Files of backbones' weights; empty: as base.backbone.weights says.
    'weights': dict.fromkeys(BACKBONES, ''),
    'base': base,
    # What all variants set: the base's own values have no say in them.
    'varied': tuple((x, flatten(base).get(x)) for x in sorted(varied)),
    'variants': tuple((x, tuple(some.items())) for x, some in variants.items()),
    'paper': tuple((x, *pair) for x, pair in (paper or {}).items()),
  }
  return ConfigDict(settings)


def expand(config: Config) -> dict[str, Config]:
  """Returns the settings of every run, by label.

  Settings out of range, unknown labels or fields, and variants that are the
  same raise a ValueError.
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
    if run.backbone.name == 'auto':
      raise ValueError('a sweep takes a name: --config.base.backbone.name')
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
  if config.view not in VIEWS:
    raise ValueError(
      f'view is {config.view!r}; choose one of {", ".join(VIEWS)}'
    )
  known = flatten(config.base)
  changed = {field for _, some in config.variants for field, _ in some}
  if unknown := sorted(changed - set(known)):
    raise ValueError(f'a variant changes {unknown[0]}, which there is not')
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

  So several sweeps share a run with the same settings. Long names are digests.
  """
  before, changes = flatten(config.base), dict(dict(config.variants)[label])
  parts = []
  for field, value in flatten(run).items():
    # The files of `weights` are where the same weights lie.
    elsewhere = field == 'backbone.weights' and field not in changes
    if value != before[field] and not elsewhere:
      several = isinstance(value, (tuple, list))
      text = '+'.join(map(str, value)) if several else str(value)
      parts.append(f'{field}={text.replace("/", "_")}')
  name = ','.join(parts) or 'base'
  if len(name.encode()) <= _LONGEST:
    return name
  digest = hashlib.sha256(name.encode()).hexdigest()[:12]
  return f'{len(parts)} settings, {digest}'
