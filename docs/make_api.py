"""Writes docs/api.md from the docstrings: python docs/make_api.py."""

import ast
import importlib
import inspect
import pathlib
import textwrap

PAGE = pathlib.Path(__file__).with_name('api.md')

FUNCTION = type(lambda: None)
# What a program may rely on, by module.
PUBLIC = {
  'detector': ['Detector', 'Prediction'],
  'train': ['train_and_evaluate'],
  'config': ['from_protocol', 'check_config'],
  'evaluation.metrics': ['evaluate', 'auroc'],
}


def page() -> str:
  """Returns the page."""
  parts = [
    '# API\n\n*Written by `python docs/make_api.py` from the docstrings.* What '
    'is not on this page can change without notice.'
  ]
  for name, members in PUBLIC.items():
    module = importlib.import_module(f'simplenet_jax.{name}')
    for member in members:
      parts += list(described(getattr(module, member), f'{name}.{member}'))
  return '\n\n'.join(parts) + '\n'


def described(what, name: str):
  """Yields the section of a function, or of a class and its methods."""
  yield f'## `simplenet_jax.{name}`'
  yield block(what, name.rsplit('.', 1)[-1])
  if not inspect.isclass(what):
    return
  for key, member in vars(what).items():
    function = getattr(member, '__func__', member)
    if key.startswith('_') or not isinstance(function, property | FUNCTION):
      continue
    yield f'### `{what.__name__}.{key}`'
    yield block(getattr(function, 'fget', function), key)


def block(what, name: str) -> str:
  """Returns a signature and a docstring, as they stand in the code."""
  text = inspect.getdoc(what) or ''
  if inspect.isclass(what) or inspect.isfunction(what):
    text = f'{name}{signature(what)}\n\n{text}'
  return f'```text\n{text}\n```'


def signature(what) -> str:
  """Returns a signature as it is written; a long one has lines."""
  node = ast.parse(textwrap.dedent(inspect.getsource(what))).body[0]
  if isinstance(node, ast.ClassDef):
    inits = [x for x in node.body if getattr(x, 'name', '') == '__init__']
    fields = [x for x in node.body if isinstance(x, ast.AnnAssign)]
    parts = map(ast.unparse, fields)
    if inits:
      _, *parts = arguments(inits[0].args)
  else:
    parts = arguments(node.args)
  parts, back = list(parts), getattr(node, 'returns', None)
  end = f' -> {ast.unparse(back)}'.replace("'", '') if back else ''
  one = f'({", ".join(parts)}){end}'
  return one if len(one) < 72 else '(\n  ' + ',\n  '.join(parts) + f',\n){end}'


def arguments(given: ast.arguments):
  """Yields each argument, with its type and default."""
  bare = [None] * (len(given.args) - len(given.defaults))
  pairs = [*zip(given.args, bare + given.defaults, strict=True)]
  star = [] if not given.kwonlyargs else [(None, None)]
  more = zip(given.kwonlyargs, given.kw_defaults, strict=True)
  for one, default in [*pairs, *star, *more]:
    text = ast.unparse(one) if one else '*'
    yield f'{text} = {ast.unparse(default)}' if default else text
  if given.kwarg:
    yield f'**{ast.unparse(given.kwarg)}'


if __name__ == '__main__':
  PAGE.write_text(page())
