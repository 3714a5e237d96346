"""Where a run's images come from, by the `data` section of its config."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import logging

from simplenet_jax import demo
from simplenet_jax.console import console
from simplenet_jax.data import (
  accounts,
  cifar10,
  folder,
  images,
  inputs,
  loading,
  visa,
)
from simplenet_jax.data.record import File
from simplenet_jax.protocols import Config

_DEMO_VALIDATION = 20  # Good images of each demo category for its threshold.
_TOLD = 5  # Images that cannot be read of which each has a line, at most.


@dataclasses.dataclass(frozen=True)
class DataSet:
  """A run's images.

  Attributes:
    categories: In the order of the data set.
    files: What every file below the root is used as.
  """

  categories: list[inputs.Inputs]
  files: tuple[accounts.Row, ...]


def open_categories(data: Config, *, whole: bool = True) -> DataSet:
  """Finds the categories, checks all their files and says what they are.

  Args:
    data: The `data` section of a config.
    whole: Whether to look at more of an image than its header. Where each of
      many processes did, they would read the data set as many times.

  Returns:
    The categories; a demo set is generated where it is missing.

  Raises:
    FileNotFoundError: If the data set is not there.
    ValueError: If the root is not set, a category is not there or has no
      training images, it cannot be told which images are good, or, with
      `strict`, an image cannot be read.
  """
  root, found = _find(data, data.categories)
  left_out = dict(found.left_out)
  opened, drawn = [], []
  for one in found.categories:
    _check_name(data.root, one.name)
    checked = _check(one, data, whole, left_out)
    readable = _without(one, checked, left_out)
    _tell_turned(readable, checked)
    category = folder.hold_out(readable, data.held_out, data.held_out_least)
    if data.held_out and not category.validation:
      logging.warning(
        '%s: %d good images to train on are too few to hold one out, so there '
        'is no threshold and no verdict; four are needed',
        category.name,
        len(category.train),
      )
    if not readable.validation:
      drawn.append(category.name)
    opened.append(inputs.prepare(category, data, checked))
  uses = accounts.of_run([one.category for one in opened], drawn)
  rows = accounts.rows(uses, left_out, root)
  accounts.warn(left_out, root)
  where = data.dataset if data.source == 'tfds' else root
  console.print(f'Images of {where}\n{accounts.tell(rows)}')
  for one in found.categories:
    if one.drawn:
      console.print(
        f'  {one.name}: {one.drawn} of its good images, drawn at random by its '
        'name, are tested on beside the defects (a fifth)'
      )
  return DataSet(opened, rows)


def _find(data: Config, names: Sequence[str]) -> tuple[Path, folder.Found]:
  """Returns the folder of the images, and what is in it."""
  root = Path(data.root).expanduser()
  words = folder.Names.parse(data.normal, data.defects, data.masks)
  split = data.source == 'folder' and (root / visa.SPLIT).is_file()
  if words != folder.Names() and (data.source != 'folder' or split):
    raise ValueError(
      '--config.data.normal, .defects and .masks name folders of your own '
      f'images, but what {"VisA" if split else data.source} holds is known; '
      'leave them out'
    )
  if data.source == 'tfds':
    from simplenet_jax.data import prepared  # Loads TFDS.

    console.print(f'Data: {data.dataset} as TFDS prepared it; reads its names')
    found = prepared.find_categories(data.dataset, data.tfds_dir, names)
    return root, folder.Found(found, {})
  if not data.root:
    raise ValueError('--config.data.root is empty; give the folder of images')
  if data.source == 'demo':
    root /= f'seed{data.demo_seed}'
    console.print(f'Data: {root} (generated where missing)')
    demo.generate(root, seed=data.demo_seed, validation=_DEMO_VALIDATION)
  elif not root.is_dir():
    raise FileNotFoundError(
      f'{root}: no such folder; {_how(data.dataset)} or name another with '
      '--config.data.root=FOLDER'
    )
  if data.source == 'cifar10':
    return root, folder.Found(cifar10.find_categories(root, names), {})
  if split:
    return root, visa.find(root, names)
  found = folder.find(root, names, words)
  if data.source == 'demo':
    found.left_out.pop(root / demo.MARKER, None)  # It says how it was made.
  return root, found


def _check(
  category: folder.Category,
  data: Config,
  whole: bool,
  left_out: dict[Path, str],
) -> dict[File, images.Checked]:
  """Looks at all images; tells of those that cannot be read."""

  def look(path: File) -> images.Checked | OSError | ValueError:
    try:
      return images.check(path, data.bits, whole=whole)
    except (OSError, ValueError) as error:
      return error

  tested = (sample.path for sample in category.test)
  paths = [*category.train, *category.validation, *tested]
  found, broken = {}, 0
  for path, one in zip(paths, loading.in_order(look, paths, 64), strict=True):
    if isinstance(one, images.Checked):
      found[path] = one
      continue
    if data.strict:
      raise ValueError(f'{one}; with --strict such an image ends the run')
    assert isinstance(path, Path)
    left_out[path] = accounts.UNREADABLE
    broken += 1
    if broken <= _TOLD:
      logging.warning('%s: left out: %s', category.name, one)
  if broken > _TOLD:
    logging.warning(
      '%s: left out: %d more images that cannot be read',
      category.name,
      broken - _TOLD,
    )
  return found


def _without(
  category: folder.Category,
  checked: Mapping[File, images.Checked],
  left_out: dict[Path, str],
) -> folder.Category:
  """Returns a category without the images that cannot be read."""
  kept = dataclasses.replace(
    category,
    train=tuple(path for path in category.train if path in checked),
    validation=tuple(path for path in category.validation if path in checked),
    test=tuple(one for one in category.test if one.path in checked),
  )
  if not kept.train:
    raise ValueError(
      f'{category.train[0]}: none of the {len(category.train)} training images '
      f'of {category.name} can be read'
    )
  for sample in category.test:
    if sample.path not in checked:
      reason = 'a mask of an image that cannot be read'
      left_out |= {m: reason for m in sample.masks if isinstance(m, Path)}
  return kept


def _tell_turned(
  category: folder.Category, checked: Mapping[File, images.Checked]
) -> None:
  turned = [path for path, one in checked.items() if one.turned]
  if turned:
    console.print(
      f'  {category.name}: {len(turned)} of {len(checked)} images are turned '
      f'as their EXIF orientation says, such as {turned[0]}'
    )


def _check_name(root: str, name: str) -> None:
  if name == 'mean':
    raise ValueError(
      f"{root}: a category is called 'mean', as the tables' row over all is; "
      'rename it, or choose others with --config.data.categories'
    )
  # Results are files of this name.
  if not name or name.startswith('.') or set(name) & set('/\\'):
    raise ValueError(
      f'{root}: a category is called {name!r}, which names no file; rename it'
    )


def _how(dataset: str) -> str:
  """Returns how a data set is put where it is looked for."""
  if not dataset:
    return 'put images there, one folder per category with train/good in it,'
  return f'get it (python -m simplenet_jax.download --dataset={dataset})'
