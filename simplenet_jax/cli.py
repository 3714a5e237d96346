"""What all commands share: flags checked, errors in one line."""

import contextlib
import datetime
import errno
import itertools
import logging as std_logging
import os
import pathlib
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, cast

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser

from simplenet_jax import config, environment
from simplenet_jax.console import Stopped, heeded
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.files import folder as folder

flags.disclaim_key_flags()  # They belong to the command that defines them.

std_logging.addLevelName(std_logging.WARNING, 'warning')

_FAULT = 70  # The exit status of a fault of the program, as in sysexits.h.
# What Python says of a flag's value, for people.
_PLAINLY = {
  'ERROR:: ': '',
  'invalid literal for int() with base 10:': 'expected a whole number, not',
  'could not convert string to float:': 'expected a number, not',
  'Non-boolean argument to boolean flag': 'expected true or false',
  ' in argv before a value for --config was specified': ' before --config=...',
  "Unknown command line flag 'config.": "no --config=... before '--config.",
}
_EXTRAS = {  # Of packages that may be absent.
  **dict.fromkeys(('tensorflow_datasets', 'importlib_resources'), 'tfds'),
  **dict.fromkeys(('starlette', 'uvicorn', 'python_multipart'), 'serve'),
  'prometheus_client': 'serve',
}
_LONGEST = 1000  # Characters of a message; what was given may be longer.
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]*)')


def run(main: Callable[..., None], *, positional: bool = False) -> None:
  """Parses the flags, runs a command and turns errors into one line.

  The exit status is 0, 1 when the work failed, 2 for wrong flags, 70 for a
  fault, or 128 and a signal's number. `main` takes `positional` arguments.
  """

  def guarded(argv: Sequence[str]) -> None:
    if len(argv) > 1 and not positional:
      _fail(2, f'unexpected argument {argv[1]!r}; flags start with --')
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)
      plain = '%(levelname)s: %(message)s'
      logging.get_absl_handler().setFormatter(std_logging.Formatter(plain))
    environment.keep_compiled()
    if sys.stdout.errors == 'strict':  # Files' names need not be text.
      cast(Any, sys.stdout).reconfigure(errors='backslashreplace')
    try:
      with heeded():
        main(*([list(argv[1:])] if positional else []))
    except Stopped as stopped:
      # At once: threads may still measure, and JAX can crash where a
      # compilation was cut short.
      _say('stop', str(stopped))
      sys.stdout.flush()
      os._exit(stopped.status)
    except BrokenPipeError:  # Whoever read the output has seen enough.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit(128 + signal.SIGPIPE)
    except Exception as error:  # Nothing may end in a traceback.
      logging.debug('', exc_info=True)
      _fail(*_told(error))

  app.run(guarded, flags_parser=_parse)


def _told(error: Exception) -> tuple[int, str]:
  """Returns the exit status and what to say about an error."""
  if isinstance(error, OSError) and error.filename and error.strerror:
    line = f'{error.filename}: {error.strerror}'
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
      line += '; give this user the right to it, or name another place'
    return 1, line
  if isinstance(error, (OSError, ValueError)):
    return 1, str(error)
  if environment.is_out_of_memory(error):
    return 1, 'a device is out of memory; stop what else uses it'
  if isinstance(error, MemoryError):
    return 1, str(error) or 'this machine is out of memory'
  name = getattr(error, 'name', None)
  if isinstance(error, ModuleNotFoundError) and name in _EXTRAS:
    extra = f'[{_EXTRAS[name]}]'
    return 1, (
      f"this needs {name}, of simplenet-jax's extra {extra}; in a checkout: "
      f"pip install '.{extra}'"
    )
  if 'jax' in sys.modules and (missing := environment.missing_backend()):
    return 1, missing
  return _FAULT, (
    f'{type(error).__name__}: {error}; this is a fault of the program, please '
    'report it with what the same command says with --verbosity=1'
  )


def _say(kind: str, message: str) -> None:
  line = ' '.join(message.split())
  line = f'{line[:_LONGEST]} ...' if len(line) > _LONGEST else line
  print(f'{kind}: {line}', file=sys.stderr, flush=True)


def _fail(status: int, message: str) -> NoReturn:
  _say('error', message)
  sys.exit(status)


def require(*names: str) -> None:
  """Has a command refuse to start where one of its flags is missing."""
  told = f'{", ".join(f"--{name}" for name in names)} must be given'
  if names == ('config',):
    told += f', one of {", ".join(config.names())} or a file'
  flags.register_multi_flags_validator(
    names,
    lambda values: all(one not in (None, '') for one in values.values()),
    told,
  )


def define_detector() -> flags.FlagValues:
  """Defines what detectors are used with, but for the output; returns flags."""
  from simplenet_jax.data.decoding import CHANNELS  # Not all commands need it.

  flags.DEFINE_string('detector', None, 'A file of WORKDIR/detectors.')
  flags.DEFINE_string('input', None, 'An image, a folder or a pattern.')
  products = 'How the network computes its products.'
  flags.DEFINE_enum('precision', 'float32', PRECISIONS, products)
  flags.DEFINE_integer('batch_size', 64, 'Images at a time, at most.', 1)
  order = 'The order of the channels of images; OpenCV has blue first, bgr.'
  flags.DEFINE_enum('channels', 'rgb', CHANNELS, order)
  flags.DEFINE_string('roi', None, 'Where to look: a picture or polygons.')
  return flags.FLAGS


def define_overwrite() -> flags.FlagHolder[bool]:
  """Defines --overwrite."""
  what = 'Whether to replace what is at --output already.'
  return flags.DEFINE_bool('overwrite', False, what)


@contextlib.contextmanager
def workdir(given: str | None, name: str) -> Iterator[pathlib.Path]:
  """Yields the directory that was given, or a new one, `runs/<name>-<time>`.

  A new one is removed where nothing was written into it.
  """
  if given:
    yield folder(given, '--workdir')
    return
  now = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
  path = folder(f'runs/{name}-{now}', '--workdir')
  for number in itertools.count(2):
    with contextlib.suppress(FileExistsError):
      path.mkdir(parents=True)
      break
    path = path.with_name(f'{name}-{now}-{number}')
  try:
    yield path
  finally:
    with contextlib.suppress(OSError):
      path.rmdir()  # Fails where anything is in it.


def with_config(argv: list[str]) -> list[str]:
  """Returns a command line in which the run's directory is its config."""
  if any(re.match('--?config=', one) for one in argv):
    return argv
  for one, following in itertools.pairwise([*argv, '']):
    if given := re.fullmatch('--?workdir(=(.*))?', one):
      path = pathlib.Path(given[2] or following).expanduser()
      return [argv[0], f'--config={path}', *argv[1:]]
  return argv


# The command line with what is in files of flags, once they were read.
_arguments: list[str] = []


def parse(argv: Sequence[str]) -> list[str]:
  """Parses flags, also those in files of flags; returns what is no flag."""
  _arguments[:] = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
  left = flags.FLAGS(_arguments)
  if 'config' in flags.FLAGS and flags.FLAGS['config'].present:
    given: config.Config = flags.FLAGS['config'].value
    data = (given.base if 'variants' in given else given).data
    # Names that look like numbers were read as such.
    data.categories = tuple(
      str(name) if type(name) is int else name for name in data.categories
    )
  return left


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    return parse(argv)
  except Exception as error:  # Also of absl's and of ml_collections' own.
    line = str(error).strip() or type(error).__name__
    if line.startswith('flags '):  # Of `require`, after all flags' values.
      line = line.rpartition(': ')[2]
    for pythons, plain in _PLAINLY.items():
      line = line.replace(pythons, plain)
    unknown = re.match(r"Unknown command line flag '([\w.]+)'", line)
    given = flags.FLAGS['config'].parser if 'config' in flags.FLAGS else None
    if unknown and isinstance(given, ConfigFile):
      line += config.suggestion(unknown[1], given.fields)
    _fail(2, line)


class ConfigFile(flags.ArgumentParser):
  """Reads `--config`: NAME, FILE or FILE:CHOICE.

  `model` has every field that a config can have; flags can set `fields`.
  """

  def __init__(self, of_sweep: bool):
    super().__init__()
    self.model, self.of_sweep = config.from_protocol(), of_sweep
    self.fields = list(config.flatten(self.model))
    if of_sweep:
      from simplenet_jax.sweeps import settings

      self.model = settings.sweep('', '', self.model, {})
      own = [f'weights.{name}' for name in self.model.weights]
      of_run = [f'base.{field}' for field in self.fields]
      self.fields = [*of_run, 'only', 'view', *own]

  def parse(self, argument: str) -> config.Config:
    """Returns the settings, checked as far as they are known yet."""
    found = config.load_config(argument)
    if ('variants' in found) != self.of_sweep:
      kinds = ('one run', 'train'), ('a sweep', 'sweep')
      kind, command = kinds['variants' in found]
      raise ValueError(f'this is the config of {kind}: simplenet {command}')
    config.check_fields(found, self.model)
    for match in filter(None, map(_OVERRIDE.match, _arguments)):
      path = match[1]
      if below := [one for one in self.fields if one.startswith(f'{path}.')]:
        told = f'a section; set its fields, as in --config.{below[0]}=...'
        raise ValueError(f'--config.{path} is {told}')
      if path not in self.fields:
        meant = config.suggestion(path, self.fields)
        raise ValueError(f'there is no --config.{path}{meant}')
    return found.lock()


class _Items(tuple_parser.TupleParser):
  """Reads values separated by commas.

  Only whole numbers as people write them become numbers: names of folders such
  as 01, 1e3, 2024_01 or true stay what was typed.
  """

  def parse(self, argument: Any) -> tuple[Any, ...]:
    if not isinstance(argument, str) or argument.startswith(tuple('([\'"')):
      return super().parse(argument)  # As Python writes them.
    texts = filter(None, map(str.strip, argument.split(',')))
    whole = re.compile('0|-?[1-9][0-9]{0,18}')
    return tuple(int(one) if whole.fullmatch(one) else one for one in texts)


def define_config(text: str, of_sweep: bool = False) -> flags.FlagHolder[Any]:
  """Defines `--config`, which takes the configs of runs or of sweeps."""
  config_flags.register_flag_parser_for_type(tuple, _Items())
  define = config_flags.DEFINE_config_file
  flag = define('config', None, text, sys_argv=_arguments)
  flags.FLAGS['config'].parser = ConfigFile(of_sweep)
  return flag
