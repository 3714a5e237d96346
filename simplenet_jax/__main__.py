"""All commands by their verbs: `simplenet COMMAND`.

Each is a module that runs on its own, too: `python -m simplenet_jax.predict`.
"""

import difflib
import runpy  # noqa: TID251
import sys
from pathlib import Path

from simplenet_jax import __version__

# The module of each verb.
COMMANDS = {
  'train': 'main',
  **{x: x for x in ('evaluate', 'sweep', 'clean', 'predict', 'serve')},
  **{x: x for x in ('calibrate', 'export', 'report', 'download', 'prepare')},
  'import-released': 'import_released',
  'config': 'show_config',
}


def summary(verb: str) -> str:
  """Returns what a command does: its module's first line, not imported."""
  path = Path(__file__).with_name(COMMANDS[verb])
  path = path / '__main__.py' if path.is_dir() else path.with_suffix('.py')
  return path.read_text('utf-8').partition('\n')[0].strip('"')


def main() -> None:
  """Runs the command that the first argument names."""
  verb, *arguments = sys.argv[1:] or ['--help']
  if verb == 'help' and arguments:
    verb, arguments = arguments[0], ['--help']
  if verb in ('--help', '-h', 'help'):
    print('simplenet COMMAND, such as: simplenet train --config=demo')
    for name in COMMANDS:
      print(f'  {name:<16} {summary(name)}')
    print('simplenet COMMAND --help explains a command and its flags.')
  elif verb == '--version':
    print(f'simplenet-jax {__version__}')
  elif verb in COMMANDS:
    sys.argv = [f'simplenet {verb}', *arguments]
    module = f'{__package__}.{COMMANDS[verb]}'
    try:
      runpy.run_module(module, run_name='__main__', alter_sys=True)
    except KeyboardInterrupt:  # Before the command heeds signals itself.
      print('stop: stopped; start the same command again', file=sys.stderr)
      sys.exit(130)
  else:
    close = difflib.get_close_matches(verb, COMMANDS, n=1)
    meant = f'; did you mean {close[0]}?' if close else ''
    print(f'error: there is no simplenet {verb}{meant}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
