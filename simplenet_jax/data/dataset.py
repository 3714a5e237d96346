"""Where a run's images come from, by the `data` section of its config."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from simplenet_jax import demo
from simplenet_jax.config import Config
from simplenet_jax.console import console
from simplenet_jax.data import files, folder, inputs, loading, public, tree
from simplenet_jax.data.category import Category, hold_out
from simplenet_jax.data.images import Checked, File, check

_DEMO_VALIDATION = 20  # Good images of each demo category for its threshold.
_LONGEST_NAME = 200  # Bytes of a category's name; file systems take 255.
_TOLD = 5  # Images that cannot be read of which each has a line, at most.


class DataSet(NamedTuple):
  """A run's categories, and what every file below its root is used as."""

  categories: list[inputs.Inputs]
  files: tuple[files.Row, ...]


def open_categories(data: Config, *, whole: bool = True) -> DataSet:
  """Finds the categories, checks all their files and says what they are.

  If not `whole`, headers alone are read: many processes would read as often.
  """
  root, found = find(data)
  opened = []
  for one in found.categories:
    # Files have the names of categories, and a table's row is called mean.
    wrong = one.name in ('', 'mean') or one.name[0] == '.'
    long = len(os.fsencode(one.name)) > _LONGEST_NAME
    if wrong or long or {*one.name} & {*'/\\'}:
      raise ValueError(
        f'{root}: a category is called {one.name!r}, as its results cannot be; '
        f'rename it (at most {_LONGEST_NAME} bytes), or choose others with '
        '--config.data.categories'
      )
    if one.drawn:
      console.print(
        f'  {one.name}: {one.drawn} of its good images (a fifth), drawn at '
        'random by its name, are tested on beside the defects'
      )
    readable, checked = _check(one, data, found.left_out, whole=whole)
    held = hold_out(readable, data.held_out, data.held_out_least)
    if data.held_out and not held.validation:
      logging.warning(
        f'{held.name}: {len(held.train)} good images to train on are too few '
        'to hold one out for a threshold and verdicts; four are needed'
      )
    opened.append(inputs.prepare(held, data, checked))
  uses = files.uses(one.category for one in opened)
  rows, lines = files.tell(uses, found.left_out, root)
  where = data.dataset if data.source == 'tfds' else root
  console.print(f'Images of {where}\n{lines}')
  return DataSet(opened, rows)


def find(data: Config) -> tuple[Path, folder.Found]:
  """Finds the categories by the names of files alone, and their folder."""
  root = Path(data.root).expanduser()
  names = tree.parse_names(data.normal, data.defects, data.masks)
  split = data.source == 'folder' and (root / public.SPLIT).is_file()
  if names and (data.source != 'folder' or split):
    raise ValueError(
      '--config.data.normal, .defects and .masks are for your own images; what '
      f'{"VisA" if split else data.source} holds is known; leave them out'
    )
  if data.source == 'tfds':
    from simplenet_jax.data import tfds  # Slow to import.

    console.print(f'Data: {data.dataset} as TFDS prepared it; reads its names')
    found = tfds.find_categories(data.dataset, data.tfds_dir, data.categories)
    return root, folder.Found(found, {})
  if not data.root:
    raise ValueError('--config.data.root is empty; give the folder of images')
  if data.source == 'demo':
    root /= f'seed{data.demo_seed}'
    if not root.exists():
      console.print(f'Generates the images of the demo in {root}')
    demo.generate(root, seed=data.demo_seed, validation=_DEMO_VALIDATION)
  elif not root.is_dir():
    how = 'put good images there,'
    if name := data.dataset:
      how = f'get it (simplenet download --dataset={name})'
    how += ' or name another with --config.data.root=FOLDER'
    raise FileNotFoundError(f'{root}: no such folder; {how}')
  if data.source == 'cifar10':
    return root, public.find_cifar10(root, data.categories)
  if split:
    return root, public.find_visa(root, data.categories)
  found = folder.find(root, data.categories, names)
  if data.source == 'demo':
    found.left_out.pop(root / demo.MARKER, None)  # It says how it was made.
  return root, found


def _check(
  one: Category, data: Config, left_out: dict[Any, str], *, whole: bool
) -> tuple[Category, dict[File, Checked]]:
  """Returns a category's images that can be read, and what is known of them."""

  def look(path: File) -> Checked | OSError | ValueError:
    try:
      return check(path, data.bits, whole=whole)
    except (OSError, ValueError) as error:
      return error

  paths, checked, broken = [*one.images()], {}, {}
  for path, found in zip(paths, loading.in_order(look, paths, 64), strict=True):
    if isinstance(found, Checked):
      checked[path] = found
      continue
    if data.strict:
      raise ValueError(f'{found}; with --strict such an image ends the run')
    broken[path] = found
  told = [*map(str, broken.values())][:_TOLD]
  told += [f'{len(broken) - _TOLD} more like it'] * (len(broken) > _TOLD)
  for line in told:
    logging.warning(f'{one.name}: left out: {line}')
  if turned := [path for path, found in checked.items() if found.turned]:
    console.print(
      f'  {one.name}: {len(turned)} of {len(checked)} images are turned as '
      f'their EXIF orientation says, such as {turned[0]}'
    )
  kept = one.without(broken)
  if not kept.train:
    raise ValueError(
      f'{one.train[0]}: none of the {len(one.train)} training images of '
      f'{one.name} can be read'
    )
  masks = [i for s in one.test if s.path in broken for i in s.masks]
  left_out |= dict.fromkeys(broken, files.UNREADABLE)
  left_out |= dict.fromkeys(masks, files.MASK_OF_UNREADABLE)
  return kept, checked
