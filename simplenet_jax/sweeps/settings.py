"""The settings of a sweep: a base, and what its variants change.

Nothing here imports jax.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from simplenet_jax.config import Config, check_config, flatten, load_config

# What is shown beside the numbers; see `figures`.
VIEWS = (
  'table',
  'line',
  'categories',
  'losses',
  'deviations',
  'speed',
  'pictures',
  'gap',
)

_LONGEST = 160  # Bytes of a directory's name; disks take 255.


def base(name: str | None = None) -> Config:
  """Returns the settings that an experiment varies.

  Args:
    name: `reference` (default) or `paper`, on MVTec AD; or `demo`.

  Raises:
    ValueError: For another name.
  """
  return load_config('demo' if name == 'demo' else f'mvtec:{name or ""}')


def sweep(
  name: str,
  title: str,
  base: Config,
  variants: Mapping[str, Mapping[str, Any]],
  view: str = 'table',
  axis: str = '',
) -> Config:
  """Returns a sweep's settings.

  Args:
    name: Of its files, and of the published figures beside it, if there are
      any (`published.TABLES`).
    title: What it shows.
    base: The settings of every run; `--config.base.<field>` sets them.
    variants: By label, the fields that a run changes and their values.
    view: One of `VIEWS`.
    axis: The field along the horizontal axis of a line.

  Runs leave no pictures, reports, scalars and (but for a view of speed)
  detectors, unless the command line asks for them.
  """
  base.evaluation.pictures, base.evaluation.report = 0, False
  base.engine.tensorboard = False
  base.detector.save = view == 'speed'
  base.evaluation.course = view == 'gap'
  return ConfigDict(
    {
      'name': name,
      'title': title,
      'view': view,
      'axis': axis,
      'only': '',  # Labels of the variants to run, as in '1,2+3'; empty: all.
      # Files of backbones' weights; empty: as base.backbone.weights says.
      'weights': dict.fromkeys(
        ('resnet18', 'resnet50', 'resnet101', 'wide_resnet50_2'), ''
      ),
      'base': base,
      # What all variants set: the base's own values have no say in them.
      'varied': tuple(
        (field, flatten(base).get(field)) for field in _varied(variants)
      ),
      'variants': tuple(
        (label, tuple(changes.items())) for label, changes in variants.items()
      ),
    }
  )


def _varied(variants: Mapping[str, Mapping[str, Any]]) -> list[str]:
  several = [set(changes) for changes in variants.values()]
  return sorted(set.intersection(*several)) if several else []


def expand(config: Config) -> dict[str, Config]:
  """Returns the settings of every run, by label.

  Args:
    config: A sweep's.

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
  runs = {}
  for label, changes in config.variants:
    if only and label not in only:
      continue
    run = config.base.copy_and_resolve_references()
    for field, value in changes:
      with run.unlocked():
        run.update_from_flattened_dict({field: value})
    if file := config.weights.get(run.backbone.name, ''):
      run.backbone.weights = file
    check_config(run)
    runs[label] = run
  names: dict[str, str] = {}
  for label, run in runs.items():
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
  changed = {field for _, changes in config.variants for field, _ in changes}
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
  """Returns the name of a run's directory: what it changes.

  Changes without end are a digest; `run.json` in the directory has them all.
  Runs of several sweeps that have the same settings so have the same name, and
  are trained once.

  Args:
    config: The sweep's settings.
    label: Of the variant.
    run: The variant's settings.
  """
  before = flatten(config.base)
  changes = dict(dict(config.variants)[label])
  parts = [
    f'{field}={_written(value)}'
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


def _written(value: Any) -> str:
  several = isinstance(value, (tuple, list))
  text = '+'.join(map(str, value)) if several else str(value)
  return text.replace('/', '_')
