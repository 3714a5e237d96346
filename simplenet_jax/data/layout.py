"""Which folders below a root are categories."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from simplenet_jax.data import parts
from simplenet_jax.data.naming import BAD, GOOD, MASK, TEST, TRAIN, Names
from simplenet_jax.data.record import Category
from simplenet_jax.data.tree import EXTENSIONS, Folder

# Bytes of a category's name; of 255 that file systems take.
_LONGEST_NAME = 200
_TESTED = 5  # Of so many good images beside defects, one is tested on.

_T = TypeVar('_T')


def categories(root: Folder, names: Names) -> dict[str, Folder]:
  """Returns the folder of each category, by its name.

  Args:
    root: A category's folder, or one of several.
    names: What a user says of folders whose names do not tell.

  Raises:
    ValueError: If there are none, or it cannot be told which images are good.
  """
  roles = parts.roles(root, names)
  inside = [one for one in roles[''] if _is_category(one, names)]
  # A category can have any name, if `train` in it says where good images are.
  named = roles[GOOD] + roles[BAD] + roles[MASK]
  inside += [one for one in named if _has_good_part(one, names)]
  if roles[TRAIN] or roles[TEST] or (not inside and _is_category(root, names)):
    return {root.name: root}
  if inside and any(_is_split(one, names) for one in inside):
    # Beside folders with `train` or `good`, loose images may be anything.
    return {one.name: one for one in inside}
  unknown = parts.with_images(roles[''])
  if root.images and not inside:
    if unknown:
      raise ValueError(
        f'{root.path} holds images, and so does {parts.listed(unknown)} in it; '
        f'say what these folders hold with {parts.WHICH} (images beside '
        'folders of defects are good)'
      )
    return {root.name: root}
  chosen = inside + [
    one
    for one in unknown
    if one.images and not parts.with_images(one.folders) and one not in inside
  ]
  _refuse_doubtful(root, chosen, parts.with_images(roles[BAD]), names)
  return {one.name: one for one in chosen}


def _refuse_doubtful(
  root: Folder, chosen: Sequence[Folder], bad: Sequence[Folder], names: Names
) -> None:
  """Raises if folders of nothing but images may hold other than good ones."""
  if not chosen:
    raise ValueError(
      f'{root.path}: no categories; expected <category>/train/{GOOD} or '
      f'train/{GOOD} in it, with images, or nothing but good images '
      f'({" ".join(EXTENSIONS)} and the like); name other folders with '
      f'{parts.WHICH}'
    )
  if bad:
    raise ValueError(
      f'{root.path}: by its name {parts.listed(bad)} holds defects, but no '
      f'folder beside it ({parts.listed(chosen)}) is called good; say which is '
      f'with {parts.WHICH}'
    )
  if telling := [one for one in chosen if names.hint(one.path)]:
    raise ValueError(
      f'{root.path}: {parts.listed(telling)} may be the name of what a folder '
      f'holds or of a kind of part; say which folders hold good images with '
      f'{parts.WHICH}, or put those of each kind of part into a folder '
      f'train/{GOOD} of its own'
    )


def read(
  name: str, folder: Folder, names: Names, left_out: dict[Path, str]
) -> Category:
  """Reads one category.

  Args:
    name: Its name.
    folder: Its folder.
    names: What a user says of folders whose names do not tell.
    left_out: Files that are not used; masks of no use are added.

  Raises:
    ValueError: See `folder.find`.
  """
  if len(os.fsencode(name)) > _LONGEST_NAME:
    raise ValueError(
      f'{folder.path}: its name is too long for files that are named after it; '
      f'at most {_LONGEST_NAME} bytes'
    )
  reader = parts.Reader(folder, names, left_out)
  train = sorted(reader.train())
  if not train:
    raise ValueError(
      f'{folder.path}: no training images; expected train/{GOOD}/* '
      f'({" ".join(EXTENSIONS)} and the like)'
    )
  good, kinds = reader.test()
  drawn = 0
  if parts.with_images(list(kinds.values())) and not reader.has_parts:
    drawn = max(1, len(train) // _TESTED) if len(train) > 3 else 0
    train, good = draw(name, train, drawn)
  return Category(
    name,
    tuple(train),
    tuple(reader.samples(sorted(good), kinds)),
    tuple(sorted(reader.validation())),
    drawn,
  )


def draw(
  name: str, given: Sequence[_T], count: int
) -> tuple[list[_T], list[_T]]:
  """Splits images at random, the same way each time: the rest, and so many.

  Args:
    name: The category's, on which the draw depends.
    given: The images.
    count: How many to draw.
  """
  rng = np.random.default_rng(zlib.crc32(os.fsencode(name)))
  drawn = set(rng.permutation(len(given))[:count].tolist())
  return (
    [file for i, file in enumerate(given) if i not in drawn],
    [file for i, file in enumerate(given) if i in drawn],
  )


def _is_category(folder: Folder, names: Names) -> bool:
  bad = parts.with_images(parts.roles(folder, names)[BAD])
  return _is_split(folder, names) or bool(folder.images and bad)


def _is_split(folder: Folder, names: Names) -> bool:
  # One with test images alone is meant as a category too, and is refused by
  # name later; passing over it would leave it out of a table.
  roles = parts.roles(folder, names)
  return bool(roles[TRAIN] or roles[TEST] or roles[GOOD])


def _has_good_part(folder: Folder, names: Names) -> bool:
  train = parts.roles(folder, names)[TRAIN]
  return any(parts.roles(one, names)[GOOD] for one in train)
