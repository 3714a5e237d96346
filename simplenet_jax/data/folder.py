"""Image folders, in the layouts that people have.

```
<root>/<category>/train/good/...                 good images to train on
<root>/<category>/validation/good/...            good ones for thresholds
<root>/<category>/test/good/...                  good ones to test on
<root>/<category>/test/<defect>/...              defective ones, by kind
<root>/<category>/ground_truth/<defect>/<stem>_mask.png
```

Only the first is required. `tree` has the other names that these folders can
have. Instead, a category can be a folder `good` beside folders of defects and
of masks, of whose good images a fifth is drawn to test on, or a folder of
nothing but good images.
"""

import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from simplenet_jax.data import tree
from simplenet_jax.data.category import (
  Category,
  Parts,
  Sample,
  draw,
  find_masks,
  pair,
)
from simplenet_jax.data.tree import BAD, GOOD, MASK, TEST, TRAIN, Folder

MVTEC_AD = (
  *('bottle', 'cable', 'capsule', 'carpet', 'grid', 'hazelnut', 'leather'),
  *('metal_nut', 'pill', 'screw', 'tile', 'toothbrush', 'transistor', 'wood'),
  'zipper',
)

# Why an image or a mask is left out.
OUTSIDE = 'outside any folder whose images are used'
NOT_CHOSEN = 'of a category that is not chosen'
UNUSED_MASK = 'a mask of a good image, or of one that is left out'

_WHICH = '--config.data.normal=NAME and --config.data.defects=NAME'
_EXPECTED = f'({" ".join(tree.EXTENSIONS)} and the like)'
_TESTED = 5  # Of so many good images beside defects, one is tested on.


@dataclasses.dataclass(frozen=True)
class Found:
  """What is below a folder: categories by name, why files are not used."""

  categories: tuple[Category, ...]
  left_out: dict[Path, str]


def find(
  root: Path | str, chosen: Sequence[str] = (), names: tree.Names | None = None
) -> Found:
  """Lists the images of every category below a folder.

  Args:
    root: The folder of the categories, or of one category.
    chosen: The categories wanted; empty for all.
    names: What a user says of folders whose names do not tell.

  Raises:
    FileNotFoundError: If the root is not a folder.
    ValueError: If a name is not there, a category has no training images, it
      cannot be told which images are good, or a mask fits no image or several.
  """
  root, names = Path(root), names or {}
  if not root.is_dir():
    raise FileNotFoundError(f'{root}: no such folder')
  whole, left_out = tree.read(root, names)
  paths = [one.path for one in whole.below()]
  for name in names:
    if not any(tree.ends_with(path, name) for path in paths):
      raise ValueError(
        f'{root}: no folder in it is called {name}, which '
        '--config.data.normal, .defects or .masks name'
      )
  try:
    folders = _categories(whole)
  except ValueError as error:
    unread = [path for path, why in left_out.items() if why == tree.UNREAD]
    hint = f'; it holds {len(unread)} of {tree.UNREAD}' if unread else ''
    raise ValueError(f'{error}{hint}') from None
  if len(folders) > 1 and all(one.images for one in folders.values()):
    logging.warning(
      f'{root}: each of {", ".join([*folders][:8])} is taken for a kind of '
      'part of its own, with good images in it; if some hold defects, say so '
      f'with {_WHICH}'
    )
  forms = {unicodedata.normalize('NFC', name): name for name in folders}
  wanted = {unicodedata.normalize('NFC', name) for name in chosen}
  if missing := ', '.join(sorted(wanted - set(forms))):
    raise ValueError(
      f'{root}: no category {missing}; there are {", ".join(folders)}'
    )
  taken = sorted(forms[one] for one in wanted or forms)
  categories = tuple(
    _read(folders[name], name, names, left_out) for name in taken
  )
  others = [i for n in set(folders) - {*taken} for i in folders[n].all_images()]
  leave_out_others(whole, categories, others, left_out)
  return Found(categories, left_out)


def leave_out_others(
  whole: Folder,
  categories: Iterable[Category],
  not_chosen: Iterable[Path],
  left_out: dict[Path, str],
) -> None:
  """Notes why other images are not used."""
  used = {file for one in categories for file in one.files()}
  images = [image for image in whole.all_images() if image not in used]
  masks = tree.masks_beside(whole.all_images())
  for one in whole.below():
    if one.role == MASK:
      masks |= {*one.all_images()}
  not_chosen = {*not_chosen}
  for image in images:
    why = UNUSED_MASK if image in masks else OUTSIDE
    left_out.setdefault(image, NOT_CHOSEN if image in not_chosen else why)


def _categories(root: Folder) -> dict[str, Folder]:
  """Returns the folder of each category, by its name."""

  def is_split(folder: Folder) -> bool:
    # One with test images alone is meant as a category too, and is refused by
    # name later; passing over it would leave it out of a table.
    return bool(folder.inside(TRAIN, TEST, GOOD))

  def is_category(folder: Folder) -> bool:
    beside_bad = folder.images and tree.filled(folder.inside(BAD))
    return is_split(folder) or bool(beside_bad)

  inside = [one for one in root.inside('') if is_category(one)]
  # A category can have any name, if `train` in it says where good images are.
  inside += [
    one
    for one in root.inside(GOOD, BAD, MASK)
    if any(train.inside(GOOD) for train in one.inside(TRAIN))
  ]
  if root.inside(TRAIN, TEST) or (not inside and is_category(root)):
    return {root.name: root}
  if any(is_split(one) for one in inside):
    # Beside folders with `train` or `good`, loose images may be anything.
    return {one.name: one for one in inside}
  unknown = tree.filled(root.inside(''))
  if root.images and not inside:
    if unknown:
      raise ValueError(
        f'{root.path} holds images, and so does {tree.listed(unknown)} in it; '
        f'say what these folders hold with {_WHICH} (images beside folders of '
        'defects are good)'
      )
    return {root.name: root}
  inside += [
    one
    for one in unknown
    if one.images and not tree.filled(one.folders) and one not in inside
  ]
  if not inside:
    raise ValueError(
      f'{root.path}: no categories; expected <category>/train/{GOOD} or '
      f'train/{GOOD} in it, with images, or nothing but good images '
      f'{_EXPECTED}; name other folders with {_WHICH}'
    )
  if bad := tree.filled(root.inside(BAD)):
    raise ValueError(
      f'{root.path}: by its name {tree.listed(bad)} holds defects, but no '
      f'folder beside it is called good; say which is with {_WHICH}'
    )
  if telling := [one for one in inside if tree.hints(one)]:
    raise ValueError(
      f'{root.path}: {tree.listed(telling)} may be the name of what a folder '
      'holds or of a kind of part; say which folders hold good images with '
      f'{_WHICH}, or put those of each kind of part into its own train/{GOOD}'
    )
  return {one.name: one for one in inside}


def _read(
  folder: Folder, name: str, names: tree.Names, left_out: dict[Path, str]
) -> Category:
  """Finds the images and masks of one category; adds to those left out."""
  part, held, tested = (
    _one(folder, role) for role in (TRAIN, tree.VALIDATION, TEST)
  )
  train = sorted(_good_in(part) if part else _good(folder))
  if not train:
    raise ValueError(
      f'{folder.path}: no training images; expected train/{GOOD}/* {_EXPECTED}'
    )
  good, drawn, kinds = [], 0, {}
  if tested:
    if tested.images:
      raise ValueError(
        f'{tested.images[0]}: a test image belongs in test/{GOOD} or '
        'test/<defect>'
      )
    good = sorted(_good(tested))
    kinds = _kinds(f for f in tested.folders if f.role not in (GOOD, MASK))
  elif not part:
    # Beside loose good images a folder's own name must say that it is bad.
    any_name = folder.inside(GOOD) and BAD not in names.values()
    kinds = _kinds(folder.inside(BAD, *([''] if any_name else [])))
    if tree.filled(kinds.values()):
      drawn = max(1, len(train) // _TESTED) if len(train) > 3 else 0
      train, good = draw(name, train, drawn)
  test = _samples(good, kinds, find_masks(folder, kinds), left_out)
  validation = sorted(_good_in(held)) if held else ()
  found = Category(name, tuple(train), tuple(test), tuple(validation), drawn)
  again = tree.repeated(found.images())
  tested = {sample.path: sample.label for sample in found.test}
  for path, first in again.items():
    if tested.get(path, 0) != tested.get(first, 0):
      raise ValueError(
        f'{path} and {first} are one file, good by one name and defective by '
        'the other; remove one'
      )
  left_out |= dict.fromkeys(again, tree.TWICE)
  return found.without(again)


def _one(folder: Folder, role: str) -> Folder | None:
  """Returns the folder of a role, of which there must not be two."""
  found = folder.inside(role)
  if len(found) > 1:
    raise ValueError(
      f'{folder.path} holds {tree.listed(found)}, all names of the images for '
      f'{role}; keep one'
    )
  return found[0] if found else None


def _good_in(part: Folder) -> list[Path]:
  """Returns the good images of `train` or `validation`."""
  others = [one for one in part.folders if one.role not in (BAD, MASK)]
  if not part.inside(GOOD) and (unknown := tree.filled(others)):
    raise ValueError(
      f'{part.path} has no folder called good; say what {tree.listed(unknown)} '
      f'in it holds with {_WHICH}'
    )
  return _good(part)


def _good(part: Folder) -> list[Path]:
  """Returns the images in folders called good, else those in none."""
  found = part.images
  if folders := part.inside(GOOD):
    found = [i for one in folders for i in one.all_images(MASK, BAD)]
  beside = tree.masks_beside(found)
  return [image for image in found if image not in beside]


def _samples(
  good: Sequence[Path],
  kinds: Mapping[str, Folder],
  found: dict[Path, Parts],
  left_out: Iterable[Path],
) -> Iterator[Sample]:
  """Yields test images by kind, with those of the masks that are theirs."""
  below = {k: sorted(f.all_images(MASK, GOOD)) for k, f in kinds.items()}
  images = {
    image: (kind, *image.relative_to(kinds[kind].path).with_suffix('').parts)
    for kind, some in below.items()
    for image in some
  }
  found |= {one: images.pop(one) for one in tree.masks_beside(images)}
  gone = {
    tree.same(path.stem)
    for path in left_out
    if any(path.is_relative_to(one.path) for one in kinds.values())
  }
  own = pair(images, found, gone, {tree.same(image.stem) for image in good})
  for kind, some in sorted((below | {GOOD: good}).items()):
    for image in some:
      if kind == GOOD or image in images:
        yield Sample(image, kind, own.get(image, ()))


def _kinds(folders: Iterable[Folder]) -> dict[str, Folder]:
  """Returns the folder of each kind of defect."""
  kinds = {}
  for one in folders:
    inner = []
    if one.role == BAD and not one.images:
      inner = tree.filled(one.inside('', BAD))
    for kind in inner or [one]:
      if kind.name in kinds or kind.name == GOOD:
        raise ValueError(
          f'{kind.path}: another folder of test images is called '
          f'{kind.name}; rename one'
        )
      kinds[kind.name] = kind
  return kinds
