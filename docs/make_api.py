"""Writes docs/api.md from the docstrings: python docs/make_api.py."""

import ast
import functools
import importlib
import inspect
import itertools
import pathlib
import textwrap

PAGE = pathlib.Path(__file__).with_name('api.md')

FUNCTION = type(lambda: None)
# What a program may rely on, by module.
PUBLIC = {
  'detector': ['Detector', 'Prediction'],
  'detection.regions': ['Region'],
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
  for key, member in members(what):
    function = getattr(member, '__func__', member)
    kinds = property, functools.cached_property, FUNCTION
    if key.startswith('_') and key != '__call__':
      continue
    if not isinstance(function, kinds):
      continue
    yield f'### `{what.__name__}.{key}`'
    inner = getattr(function, 'fget', None) or getattr(function, 'func', None)
    yield block(inner or function, key)


def members(what):
  """Returns a class's members, then those of its bases in the package."""
  found = {}
  for one in what.__mro__:
    if one.__module__.startswith('simplenet_jax.'):
      found |= {key: x for key, x in vars(one).items() if key not in found}
  return found.items()


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
    fields = [x for x in node.body if isinstance(x, ast.AnnAssign)]
    if not fields:  # Its own `__init__`, or that of a base.
      return signature(what.__init__).removesuffix(' -> None')
    parts = map(ast.unparse, fields)
  else:
    skipped = getattr(what, '__name__', '') == '__init__'  # Its `self`.
    parts = itertools.islice(arguments(node.args), skipped, None)
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
