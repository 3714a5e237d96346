"""The settings of a run: protocols, configs by name, and their check.

Nothing here imports jax.
"""

import contextlib
import difflib
import inspect
import runpy  # noqa: TID251
import traceback
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from simplenet_jax.fields import FIELDS, TABLES, TYPES, as_value, resolved
from simplenet_jax.files import naming, read_json

# A ConfigDict. Its fields are known at run time only; `check_config` checks.
Config = Any

# What each protocol changes in the defaults: `reference` is the released code,
# `paper` the paper's text (section 4.3), `fast` a recipe whose last epoch can
# be taken (docs/last_epoch.md), at less than a tenth of the operations, and
# `combined`, in most of it `fast`, also counts distances to good patches
# (docs/study.md).
PROTOCOLS: dict[str, dict[str, Any]] = TABLES['protocols']
PROTOCOLS['combined'] = PROTOCOLS['fast'] | PROTOCOLS['combined']

# Fields, or the beginnings of their names, with other values of which a run
# can be resumed: they change how it goes on, not what comes of it.
RESUMABLE = tuple(TABLES['resumable'])
# Fields, or the beginnings of their names, that a protocol fixes.
PROTOCOL_FIELDS = tuple(TABLES['of protocols'])


def from_protocol(name: str | None = None) -> Config:
  """Returns a protocol's settings; raises ValueError for an unknown name."""
  name = name or 'reference'
  if name not in PROTOCOLS:
    raise ValueError(
      f'protocol is {name!r}; choose one of {", ".join(PROTOCOLS)}'
    )
  values = {field: one.default for field, one in FIELDS.items()}
  tree: dict[str, Any] = {}
  for field, value in (values | PROTOCOLS[name] | {'protocol': name}).items():
    *sections, last = field.split('.')
    section = tree
    for part in sections:
      section = section.setdefault(part, {})
    section[last] = as_value(value)
  return ConfigDict(tree)


def flatten(tree: Any, prefix: str = '') -> dict[str, Any]:
  """Returns every leaf of nested mappings by its path, as 'train.epochs'."""
  found = {}
  for name, value in tree.items():
    if isinstance(value, Mapping | ConfigDict):
      found |= flatten(value, f'{prefix}{name}.')
    else:
      found[prefix + name] = value
  return found


def load_config(argument: str) -> Config:
  """Returns the settings of a config, or of a run; ValueError if it has none.

  The argument is `mvtec`, `mvtec:paper` or `configs/mvtec.py:paper`: a config's
  name or file, whose `get_config` is called, and its choice; or a run's folder.
  """
  if (Path(argument) / 'run.json').is_file():
    return _load_run(Path(argument) / 'run.json')
  name, colon, choices = argument.partition(':')
  choice, *others = choices.split(':')
  if others:
    logging.warning(f'{argument}: takes {choice}, not {" and ".join(others)}')
  path = str(_find(name))
  try:
    get_config = runpy.run_path(path).get('get_config')
    if not callable(get_config):
      raise ValueError('has no function get_config; see configs/folder.py')
    if colon and not inspect.signature(get_config).parameters:
      raise ValueError('this one has no choices; leave out the colon and more')
    config = get_config(choice) if colon else get_config()
  except ValueError:
    raise
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f'line {f.lineno}: ' for f in frames if f.filename == path]
    raise ValueError(
      f'{"".join(lines[-1:])}{type(error).__name__}: {error}; mend the file'
    ) from None
  if not isinstance(config, ConfigDict):
    raise ValueError(
      f'its get_config returned {type(config).__name__}, expected a ConfigDict '
      'such as config.from_protocol()'
    )
  return config


def _load_run(path: Path) -> Config:
  config, remedy = from_protocol(), "give another run's directory"
  with naming(path, remedy):
    stored = flatten(read_json(path, remedy)['config'])
    for field in flatten(config).keys() & stored.keys():
      config.update_from_flattened_dict({field: as_value(stored[field])})
  return config


def config_folder() -> Path:
  """Returns the folder of the configs that come with the package."""
  inside = Path(__file__).with_name('configs')  # A checkout has it beside.
  return inside if inside.is_dir() else inside.parents[1] / 'configs'


def _find(name: str) -> Path:
  own = name.removeprefix('configs/').removesuffix('.py')
  for path in (Path(name), config_folder() / f'{own}.py'):
    if path.is_file():
      return path
  raise ValueError(f'no such file; configs by name: {", ".join(names())}')


def names() -> list[str]:
  """Returns the names of the configs that come with the package."""
  folder = config_folder()
  files = sorted(folder.rglob('*.py'))
  return [one.relative_to(folder).with_suffix('').as_posix() for one in files]


def describe_protocol(config: Config, weights: str = '') -> str:
  """Returns whose protocol a run follows, as 'reference, but data.crop'.

  What a config of the package sets is no change but named, as in 'combined
  (folder)'. `weights` says what the backbone's are, if not the protocol's. Of a
  protocol of one's own it is the name.
  """
  if (name := config.protocol) not in PROTOCOLS:
    return name
  mine, plain = (resolved(flatten(x)) for x in (config, from_protocol(name)))
  preset = plain
  # A name can come from a file: nothing but the package's own files is run.
  if config.name in names():
    path = config_folder() / f'{config.name}.py'
    with contextlib.suppress(ValueError):  # It may have no such choice.
      preset = resolved(plain | flatten(load_config(f'{path}:{name}')))
  fixed = [one for one in plain if one.startswith(PROTOCOL_FIELDS)]
  changed = [one for one in fixed if preset[one] not in (mine[one], 'auto')]
  changed += [f'backbone.weights ({weights})'] * bool(weights)
  if any(preset[one] != plain[one] for one in fixed):
    name += f' ({config.name})'
  return f'{name}, but {", ".join(changed)}' if changed else name


def check_config(config: Config) -> None:
  """Raises ValueError that names all unknown, missing and wrong fields."""
  if 'variants' in config:
    raise ValueError(f'{config.name} is the config of a sweep: simplenet sweep')
  check_fields(config, from_protocol())
  values = flatten(config)
  problems = [
    f'--config.{field} is {values[field]!r}, expected {one.rule.allowed}'
    for field, one in FIELDS.items()
    if one.rule and not one.rule.accepts(values[field])
  ]
  if config.backbone.probe and config.backbone.padding != 'reflect':
    problems.append(
      '--config.backbone.probe needs --config.backbone.padding=reflect, found '
      f'{config.backbone.padding!r}; turn it off (--noconfig.backbone.probe)'
    )
  if config.train.pasted and not (
    config.train.patches and trains_heads(config)
  ):
    why = 'train.patches=0 takes whole images'
    if not trains_heads(config):
      why = 'nearest.head=0 trains no head'
    problems.append(
      f'--config.train.pasted is {config.train.pasted}, but --config.{why}; '
      'take --config.train.pasted=0'
    )
  if not trains_heads(config) and len(config.seeds) > 1:
    problems.append(
      '--config.nearest.head=0 trains no head, so that one of '
      f'--config.seeds is enough, found {list(config.seeds)}'
    )
  if problems:
    raise ValueError('; '.join(problems))


def trains_heads(config: Config) -> bool:
  """Returns whether heads are trained, or nearest neighbours are all."""
  return not config.nearest.size or config.nearest.head > 0


def bank_dtype(config: Config) -> str:
  """Returns the type of stored features, which can follow the precision."""
  return resolved(flatten(config))['bank.dtype']


def check_fields(config: Config, model: Config) -> None:
  """Raises ValueError where settings lack a model's fields or types."""
  found, known = flatten(config), flatten(model)
  problems = [
    f'there is no --config.{field}{suggestion(field, known)}'
    for field in found
    if field not in known
  ]
  if missing := [f'--config.{field}' for field in known if field not in found]:
    problems.append(
      f'there must be {", ".join(missing)}; start from config.from_protocol(), '
      'as the files in configs do'
    )
  problems += [
    f'--config.{field} is {found[field]!r}, expected {TYPES[type(default)][0]}'
    for field, default in known.items()
    if field in found and type(found[field]) not in TYPES[type(default)][1]
  ]
  if problems:
    raise ValueError('; '.join(problems))


def suggestion(path: str, known: Collection[str]) -> str:
  """Returns a question for the field among `known` that was meant, or ''."""
  close = difflib.get_close_matches(path, known, n=1)
  close += [one for one in known if one.split('.')[-1] == path.split('.')[-1]]
  return f'; did you mean --config.{close[0]}?' if close else ''


def crop_caution(config: Config) -> str:
  """Returns a warning where a crop leaves out or adds more than usual, or ''.

  As usual is what the protocol lets see of an image, or all of it.
  """
  resize, crop, told = config.data.resize, config.data.crop, ''
  if crop > resize:
    told = (
      f'resize {resize} is smaller than crop {crop}: every image gets a black '
      f'frame of {(crop - resize + 1) // 2} pixels'
    )
  elif 0 < crop < resize and config.protocol in PROTOCOLS:
    usual = from_protocol(config.protocol).data
    if abs(crop / resize - usual.crop / usual.resize) >= 0.005:
      told = (
        f'crop is {crop} of an image whose shorter side is resized to {resize}'
        f': {100 * (crop / resize) ** 2:.0f} % of a square image is seen'
      )
  remedy = 'set both, or --config.data.crop=0 to see the whole image'
  return f'{told}; {remedy}' if told else ''
