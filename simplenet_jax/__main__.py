"""Lists the commands: `python -m simplenet_jax`."""

import ast
import pathlib

_COMMANDS = (
  'main',
  'sweep',
  'predict',
  'calibrate',
  'export',
  'import_released',
  'download',
  'prepare',
  'report',
  'models.weights',
)


def listing() -> str:
  """Returns a line for each command: how it is called and what it does."""
  here = pathlib.Path(__file__).parent
  lines = []
  for name in _COMMANDS:
    path = here / name.replace('.', '/')
    file = path / '__main__.py' if path.is_dir() else path.with_suffix('.py')
    text = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8')))
    told = (text or '').splitlines()[0]
    lines.append(f'  python -m simplenet_jax.{name:<16} {told}')
  return '\n'.join(['Commands; each has --help:', *lines])


if __name__ == '__main__':
  print(listing())
