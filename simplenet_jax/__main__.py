"""All commands by their verbs: `simplenet COMMAND`.

Each is a module that runs on its own, too: `python -m simplenet_jax.predict`.
"""

import ast
import difflib
import importlib.util
import pathlib
import runpy  # noqa: TID251
import sys

from simplenet_jax import __version__

# The module of each verb.
COMMANDS = {
  'train': 'main',
  'evaluate': 'evaluate',
  'sweep': 'sweep',
  'predict': 'predict',
  'calibrate': 'calibrate',
  'export': 'export',
  'report': 'report',
  'download': 'download',
  'prepare': 'prepare',
  'import-released': 'import_released',
  'weights': 'models.weights',
  'config': 'show_config',
}


def listing() -> str:
  """Returns a line for each command: its verb and what it does."""
  lines = ['simplenet COMMAND, as in simplenet train --config=demo']
  for verb, module in COMMANDS.items():
    found = importlib.util.find_spec(f'{__package__}.{module}')
    assert found and found.origin
    path = pathlib.Path(found.origin)
    if found.submodule_search_locations:
      path = path.with_name('__main__.py')
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    lines.append(f'  {verb:<16} {(text or "").splitlines()[0]}')
  lines.append('simplenet COMMAND --help lists the flags.')
  return '\n'.join(lines)


def main() -> None:
  """Runs the command that the first argument names."""
  verb, *arguments = sys.argv[1:] or ['--help']
  if verb in ('--help', '-h', 'help'):
    print(listing())
  elif verb == '--version':
    print(f'simplenet-jax {__version__}')
  elif verb in COMMANDS:
    sys.argv = [f'simplenet {verb}', *arguments]
    module = f'{__package__}.{COMMANDS[verb]}'
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  else:
    close = difflib.get_close_matches(verb, COMMANDS, n=1)
    meant = f'; did you mean {close[0]}?' if close else ''
    print(f'error: there is no simplenet {verb}{meant}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
