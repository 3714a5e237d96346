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
nothing but good images. Nothing is read but names and, where a suffix does not
tell, contents.
"""

import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import logging

from simplenet_jax.data import tree
from simplenet_jax.data.category import WHICH, Category, Reader, filled, listed
from simplenet_jax.data.tree import BAD, GOOD, MASK, TEST, TRAIN, Folder, Names

MVTEC_AD = (
  *('bottle', 'cable', 'capsule', 'carpet', 'grid', 'hazelnut', 'leather'),
  *('metal_nut', 'pill', 'screw', 'tile', 'toothbrush', 'transistor', 'wood'),
  'zipper',
)

# Why an image is left out.
OUTSIDE = 'outside any folder whose images are used'
NOT_CHOSEN = 'of a category that is not chosen'


@dataclasses.dataclass(frozen=True)
class Found:
  """What is below a folder: categories by name, why files are not used."""

  categories: tuple[Category, ...]
  left_out: dict[Path, str]


def find(
  root: Path | str, chosen: Sequence[str] = (), names: Names | None = None
) -> Found:
  """Lists the images of every category below a folder.

  Args:
    root: The folder of the categories, or of one category.
    chosen: The categories wanted; empty for all.
    names: What a user says of folders whose names do not tell.

  Raises:
    FileNotFoundError: If the root is not a folder.
    ValueError: If there are no categories, a name is not there or too long, a
      category has no training images, it cannot be told which images are good,
      or a mask fits no image or several.
  """
  root, names = Path(root), names or Names()
  if not root.is_dir():
    raise FileNotFoundError(f'{root}: no such folder')
  whole, left_out = tree.read(root, names)
  if missing := names.unmatched(whole):
    raise ValueError(
      f'{root}: no folder in it is called {", ".join(missing)}, which '
      '--config.data.normal, .defects or .masks name'
    )
  try:
    folders = _categories(whole)
  except ValueError as error:
    unread = [path for path, why in left_out.items() if why == tree.UNREAD]
    of = f'; of {tree.UNREAD}, it holds {len(unread)}, such as '
    raise ValueError(
      f'{error}{of}{unread[0]}' if unread else str(error)
    ) from None
  if len(folders) > 1 and all(one.images for one in folders.values()):
    some = ', '.join([*folders][:8]) + ' and others' * (len(folders) > 8)
    logging.warning(
      f'{root}: each of {some} is taken for a kind of part of its own, with '
      f'good images in it; if some hold defects, say so with {WHICH}'
    )
  forms = {unicodedata.normalize('NFC', name): name for name in folders}
  wanted = {unicodedata.normalize('NFC', name) for name in chosen}
  if missing := sorted(wanted - set(forms)):
    raise ValueError(
      f'{root}: no category {", ".join(missing)}; there are '
      f'{", ".join(folders)}'
    )
  taken = sorted(forms[one] for one in wanted or forms)
  categories = tuple(
    Reader(folders[name], names, left_out).read(name) for name in taken
  )
  others = [i for n in set(folders) - {*taken} for i in folders[n].all_images()]
  leave_out_others(whole, categories, others, left_out)
  return Found(categories, left_out)


def leave_out_others(
  whole: Folder,
  categories: Iterable[Category],
  others: Iterable[Path],
  left_out: dict[Path, str],
) -> None:
  """Notes why other images are not used; `others` are not chosen."""
  used, others = {file for one in categories for file in one.files()}, {*others}
  for image in whole.all_images():
    if image not in used:
      why = NOT_CHOSEN if image in others else OUTSIDE
      left_out.setdefault(image, why)


def _categories(root: Folder) -> dict[str, Folder]:
  """Returns the folder of each category, by its name."""
  inside = [one for one in root.inside('') if _is_category(one)]
  # A category can have any name, if `train` in it says where good images are.
  inside += [
    one
    for one in root.inside(GOOD, BAD, MASK)
    if any(train.inside(GOOD) for train in one.inside(TRAIN))
  ]
  if root.inside(TRAIN, TEST) or (not inside and _is_category(root)):
    return {root.name: root}
  if any(_is_split(one) for one in inside):
    # Beside folders with `train` or `good`, loose images may be anything.
    return {one.name: one for one in inside}
  unknown = filled(root.inside(''))
  if root.images and not inside:
    if unknown:
      raise ValueError(
        f'{root.path} holds images, and so does {listed(unknown)} in it; '
        f'say what these folders hold with {WHICH} (images beside '
        'folders of defects are good)'
      )
    return {root.name: root}
  chosen = inside + [
    one
    for one in unknown
    if one.images and not filled(one.folders) and one not in inside
  ]
  _refuse_doubtful(root, chosen)
  return {one.name: one for one in chosen}


def _is_split(folder: Folder) -> bool:
  # One with test images alone is meant as a category too, and is refused by
  # name later; passing over it would leave it out of a table.
  return bool(folder.inside(TRAIN, TEST, GOOD))


def _is_category(folder: Folder) -> bool:
  return _is_split(folder) or bool(folder.images and filled(folder.inside(BAD)))


def _refuse_doubtful(root: Folder, chosen: Sequence[Folder]) -> None:
  """Raises if folders of nothing but images may hold other than good ones."""
  if not chosen:
    raise ValueError(
      f'{root.path}: no categories; expected <category>/train/{GOOD} or '
      f'train/{GOOD} in it, with images, or nothing but good images '
      f'({" ".join(tree.EXTENSIONS)} and the like); name other folders with '
      f'{WHICH}'
    )
  if bad := filled(root.inside(BAD)):
    raise ValueError(
      f'{root.path}: by its name {listed(bad)} holds defects, but no '
      f'folder beside it ({listed(chosen)}) is called good; say which is '
      f'with {WHICH}'
    )
  if telling := [one for one in chosen if tree.hints(one)]:
    raise ValueError(
      f'{root.path}: {listed(telling)} may be the name of what a folder '
      f'holds or of a kind of part; say which folders hold good images with '
      f'{WHICH}, or put those of each kind of part into a folder '
      f'train/{GOOD} of its own'
    )
