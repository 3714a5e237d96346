"""Writes docs/api.md from the docstrings: python docs/make_api.py."""

import importlib
import inspect
import pathlib

PAGE = pathlib.Path(__file__).with_name('api.md')

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
    if key.startswith('_') or not inspect.getdoc(member):
      continue
    function = getattr(member, '__func__', member)
    yield f'### `{what.__name__}.{key}`'
    yield block(getattr(function, 'fget', function), key)


def block(what, name: str) -> str:
  """Returns a signature and a docstring, as they stand in the code."""
  text = inspect.getdoc(what) or ''
  if inspect.isclass(what) or inspect.isfunction(what):
    text = f'{name}{signature(what)}\n\n{text}'
  return f'```text\n{text}\n```'


def signature(what) -> str:
  """Returns a signature, one argument a line where it is long."""
  shown = inspect.signature(what)
  parts = [str(one).replace("'", '') for one in shown.parameters.values()]
  back = shown.return_annotation
  end = '' if back is shown.empty else f' -> {getattr(back, "__name__", back)}'
  one = f'({", ".join(parts)}){end}'
  return one if len(one) < 72 else '(\n  ' + ',\n  '.join(parts) + f',\n){end}'


if __name__ == '__main__':
  PAGE.write_text(page())
