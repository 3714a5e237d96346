"""The flag `--config` and what overrides its fields; nothing imports jax."""

import re
from collections.abc import Sequence
from typing import Any

from absl import flags, logging
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from simplenet_jax.config import (
  Config,
  check_fields,
  flatten,
  from_protocol,
  load_config,
  suggestion,
)

flags.disclaim_key_flags()  # It belongs to the command that has it defined.

_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]*)')


class ConfigFile(flags.ArgumentParser):
  """Reads `--config`: a Python file with `get_config`, and its choice.

  Attributes:
    model: Settings that have every field that a file can have.
    fields: The paths of those that flags can set.
    of_sweep: Whether they are those of sweeps.
  """

  def __init__(self, of_sweep: bool):
    """Reads the configs of runs, or those of sweeps."""
    super().__init__()
    self.model, self.of_sweep = from_protocol(), of_sweep
    self.fields = list(flatten(self.model))
    if of_sweep:
      from simplenet_jax.sweeps import settings

      self.model = settings.sweep('', '', self.model, {})
      own = [f'weights.{name}' for name in self.model.weights]
      of_run = [f'base.{field}' for field in self.fields]
      self.fields = [*of_run, 'only', 'view', *own]

  def parse(self, argument: str) -> Config:
    """Returns the settings that a file gives, checked but for their range.

    Args:
      argument: As in FILE or FILE:CHOICE.

    Raises:
      ValueError: If they are no settings, or those of another command.
    """
    name, colon, choices = argument.partition(':')
    choice, several, _ = choices.partition(':')
    if several:
      logging.warning(
        '--config=%s makes several choices; the first, %s, is taken',
        argument,
        choice,
      )
    config = load_config(name + colon + choice)
    if ('variants' in config) != self.of_sweep:
      kinds = ('one run', 'main'), ('a sweep', 'sweep')
      kind, command = kinds['variants' in config]
      raise ValueError(
        f'this is the config of {kind}: python -m simplenet_jax.{command}'
      )
    check_fields(config, self.model)
    return config.lock()

  def flag_type(self) -> str:
    """Returns what `--help` calls the flag's values."""
    return 'a config file'


class _Items(tuple_parser.TupleParser):
  """Reads several values, separated by commas; what looks like one is one.

  Only whole numbers as people write them become numbers: names of folders such
  as 01, 1e3, 2024_01 or true stay what was typed.
  """

  def parse(self, argument: Any) -> tuple[Any, ...]:
    """Returns the values."""
    if not isinstance(argument, str) or argument.startswith(tuple('([\'"')):
      return super().parse(argument)  # As Python writes them.
    texts = [text.strip() for text in argument.split(',')]
    return tuple(
      int(text) if re.fullmatch('0|-?[1-9][0-9]{0,18}', text) else text
      for text in texts
      if text
    )


# The command line with what is in files of flags, once they were read.
_arguments: list[str] = []


def define(text: str, *, of_sweep: bool = False) -> flags.FlagHolder[Any]:
  """Defines `--config`.

  Args:
    text: What the settings are for.
    of_sweep: Whether the command takes the configs of sweeps.
  """
  config_flags.register_flag_parser_for_type(tuple, _Items())
  flag = config_flags.DEFINE_config_file(
    'config', None, text, sys_argv=_arguments
  )
  flags.FLAGS['config'].parser = ConfigFile(of_sweep)
  return flag


def _parser() -> ConfigFile:
  parser = flags.FLAGS['config'].parser
  assert isinstance(parser, ConfigFile)
  return parser


def read_overrides(argv: Sequence[str]) -> None:
  """Looks for `--config.<field>`; refuses fields that there are not.

  Has to be called before flags are parsed.

  Args:
    argv: The command line; flags in files that it names are looked at, too.

  Raises:
    flags.Error: Names the first one, and which was meant.
  """
  if 'config' not in flags.FLAGS:
    return
  fields = _parser().fields
  _arguments[:] = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
  config_given = False
  for argument in _arguments:
    config_given |= bool(re.match('--?config(=|$)', argument))
    match = _OVERRIDE.match(argument)
    if not match:
      continue
    path = match[1]
    if below := [field for field in fields if field.startswith(f'{path}.')]:
      raise flags.Error(
        f'--config.{path} is a section; set its fields, as in '
        f'--config.{below[0]}=...'
      )
    if path not in fields:
      raise flags.Error(
        f'there is no --config.{path}{suggestion(path, fields)}'
      )
    if not config_given:
      raise flags.Error(f'--config must be given, before --config.{path}')


def keep_names() -> None:
  """Makes texts again of categories that are called like numbers."""
  if 'config' not in flags.FLAGS:
    return
  config: Config = flags.FLAGS['config'].value
  data = (config.base if _parser().of_sweep else config).data
  data.categories = tuple(
    str(name) if type(name) is int else name for name in data.categories
  )
