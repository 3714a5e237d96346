"""Image folders, in the layouts that people have; see `tree` for other names.

```
<root>/<category>/train/good/...                 good images to train on
<root>/<category>/validation/good/...            good ones for thresholds
<root>/<category>/test/good/...                  good ones to test on
<root>/<category>/test/<defect>/...              defective ones, by kind
<root>/<category>/ground_truth/<defect>/<stem>_mask.png
```

Only the first is required. A category can also be a folder `good` beside those
of defects and masks, a fifth being drawn to test on, or nothing but images.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from simplenet_jax.data import tree
from simplenet_jax.data.category import Category, Sample, draw, find_masks, pair
from simplenet_jax.data.tree import BAD, GOOD, MASK, TEST, TRAIN, Folder

MVTEC_AD = tuple(tree.WORDS['categories']['mvtec_ad'])

# Why an image or a mask is left out.
OUTSIDE = 'outside any folder whose images are used'
NOT_CHOSEN = 'of a category that is not chosen'
UNUSED_MASK = 'a mask of a good image, or of one that is left out'

_WHICH = '--config.data.normal=NAME, --config.data.defects=NAME'
_EXPECTED = f'({" ".join(tree.EXTENSIONS)} and the like)'
_TESTED = 5  # Of so many good images beside defects, one is tested on.


class Found(NamedTuple):
  """What is below a folder: categories by name, why files are not used."""

  categories: tuple[Category, ...]
  left_out: dict[Path, str]


def find(
  root: Path | str, chosen: Sequence[str] = (), names: tree.Names | None = None
) -> Found:
  """Lists the images of all categories, or those chosen, in a folder or of one.

  Refuses names that are not there, categories without training images, folders
  of which it cannot be told what they hold, and masks of no image or several.
  """
  root, names = Path(root), names or {}
  whole, left_out = tree.read(root, names)
  for name in names:
    if not any(tree.ends_with(one.path, name) for one in whole.below()):
      raise ValueError(
        f'{root}: no folder in it is called {name}, which '
        '--config.data.normal, .defects or .masks name'
      )
  try:
    folders = _categories(whole)
  except ValueError as error:
    unread = [*left_out.values()].count(tree.UNREAD)
    hint = f'; it holds {unread} of {tree.UNREAD}' if unread else ''
    raise ValueError(f'{error}{hint}') from None
  if len(folders) > 1 and all(one.images for one in folders.values()):
    logging.warning(
      f'{root}: each of {", ".join([*folders][:8])} is taken for a kind of '
      f'part with good images in it; if some hold defects, say so with {_WHICH}'
    )
  if root.is_dir() and list(folders.values()) == [whole] and whole.images:
    around = sorted(root.resolve().parent.glob('*'))
    good = [one.name for one in around if tree.role_of(one) == GOOD]
    if good and tree.role_of(root.resolve()) not in (GOOD, TRAIN):
      logging.warning(
        f'{root} is taken for good images, but stands beside {good[0]}; give'
        ' good images alone'
      )
  taken = sorted(tree.choose(root, chosen, folders))
  found = [_read(folders[name], name, names, left_out) for name in taken]
  others = [i for n in {*folders} - {*taken} for i in folders[n].all_images()]
  return found_below(whole, left_out, found, others)


def found_below(
  whole: Folder,
  left_out: dict[Path, str],
  categories: Sequence[Category],
  not_chosen: Iterable[Path],
) -> Found:
  """Returns what was found, and why other images are not used."""
  reasons = dict.fromkeys(whole.all_images(), OUTSIDE)
  reasons |= dict.fromkeys(tree.masks_beside(reasons), UNUSED_MASK)
  for one in whole.below():
    if one.role == MASK:
      reasons |= dict.fromkeys(one.all_images(), UNUSED_MASK)
  reasons |= dict.fromkeys(not_chosen, NOT_CHOSEN)
  used = {file for one in categories for file in one.files()}
  for image in reasons.keys() - used - left_out.keys():
    left_out[image] = reasons[image]
  return Found(tuple(categories), left_out)


def _categories(root: Folder) -> dict[str, Folder]:

  def is_category(folder: Folder) -> bool:
    # One with test images alone is refused by name later; passing over it would
    # leave it out of a table.
    beside_bad = folder.images and tree.filled(folder.inside(BAD))
    return bool(folder.inside(TRAIN, TEST, GOOD) or beside_bad)

  inside = [one for one in root.inside('') if is_category(one)]
  # A category can have any name, if `train` in it says where good images are.
  for one in root.inside(GOOD, BAD, MASK):
    if any(train.inside(GOOD) for train in one.inside(TRAIN)):
      inside.append(one)
  if root.inside(TRAIN, TEST) or (not inside and is_category(root)):
    return {root.name: root}
  if any(one.inside(TRAIN, TEST, GOOD) for one in inside):
    # Beside folders with `train` or `good`, loose images may be anything.
    return {one.name: one for one in inside}
  unknown = tree.filled(root.inside(''))
  if root.images and not inside:
    if unknown:
      raise ValueError(
        f'{root.path} holds images, and so does {tree.listed(unknown)} in it; '
        f'say what these hold with {_WHICH}'
      )
    return {root.name: root}
  for one in unknown:
    if one.images and not tree.filled(one.folders) and one not in inside:
      inside.append(one)
  if not inside:
    raise ValueError(
      f'{root.path}: no categories; expected <category>/train/good, or nothing '
      f'but good images {_EXPECTED}; name other folders with {_WHICH}'
    )
  if bad := tree.filled(root.inside(BAD)):
    raise ValueError(
      f'{root.path}: by its name {tree.listed(bad)} holds defects, but no '
      f'folder beside it is called good; say which is with {_WHICH}'
    )
  if telling := [one for one in inside if tree.hints(one)]:
    raise ValueError(
      f'{root.path}: {tree.listed(telling)} may be the name of what a folder '
      f'holds or of a kind of part; say which are good with {_WHICH}, or put '
      'those of each kind of part into a folder train/good of its own'
    )
  return {one.name: one for one in inside}


def _read(
  folder: Folder, name: str, names: tree.Names, left_out: dict[Path, str]
) -> Category:
  """Finds the images and masks of one category; adds to those left out."""
  parts: dict[str, Folder] = {}
  for one in folder.inside(TRAIN, tree.VALIDATION, TEST):
    if other := parts.get(one.role):
      both = f'{other.name} and {one.name}'
      raise ValueError(f'{folder.path}: {both} mean {one.role}; keep one')
    parts[one.role] = one
  part, held, tested = map(parts.get, (TRAIN, tree.VALIDATION, TEST))
  train = sorted(_good(part or folder, whole=bool(part)))
  if not train:
    raise ValueError(
      f'{folder.path}: no training images; expected train/good/* {_EXPECTED}'
    )
  good, drawn, kinds = [], 0, {}
  if tested:
    if tested.images:
      where = 'belongs in test/good or test/<kind>'
      raise ValueError(f'{tested.images[0]}: {where}')
    good = sorted(_good(tested))
    kinds = _kinds(tested.outside(GOOD, MASK))
  elif not part:
    # Beside loose good images a folder's own name must say that it is bad.
    any_name = folder.inside(GOOD) and BAD not in names.values()
    kinds = _kinds(folder.inside(BAD, *([''] if any_name else [])))
    if tree.filled(kinds.values()):
      drawn = max(1, len(train) // _TESTED) if len(train) > 3 else 0
      train, good = draw(name, train, drawn)
  test = tuple(_samples(folder, good, kinds, left_out))
  validation = tuple(sorted(_good(held, whole=True))) if held else ()
  found = Category(name, tuple(train), test, validation, drawn)
  again = tree.repeated(found.images())
  bad = {sample.path for sample in test if sample.label}
  for path, first in again.items():
    if (path in bad) != (first in bad):
      raise ValueError(
        f'{path} and {first} are one file, but only one is good; remove one'
      )
  left_out |= dict.fromkeys(again, tree.TWICE)
  return found.without(again)


def _good(part: Folder, *, whole: bool = False) -> list[Path]:
  """Returns images in folders called good, else those in no folder."""
  found = part.images
  if folders := part.inside(GOOD):
    found = [i for one in folders for i in one.all_images(MASK, BAD)]
  elif whole and (held := tree.listed(tree.filled(part.outside(BAD, MASK)))):
    raise ValueError(
      f'{part.path} has no folder called good; say what {held} holds: {_WHICH}'
    )
  beside = tree.masks_beside(found)
  return [image for image in found if image not in beside]


def _samples(
  category: Folder,
  good: Sequence[Path],
  kinds: Mapping[str, Folder],
  left_out: Iterable[Path],
) -> Iterator[Sample]:
  below = {k: sorted(f.all_images(MASK, GOOD)) for k, f in kinds.items()}
  images = {
    image: (kind, *image.relative_to(kinds[kind].path).with_suffix('').parts)
    for kind, some in below.items()
    for image in some
  }
  masks = find_masks(category, kinds)
  masks |= {one: images.pop(one) for one in tree.masks_beside(images)}
  gone = {
    tree.same(path.stem)
    for path in left_out
    if any(path.is_relative_to(one.path) for one in kinds.values())
  }
  own = pair(images, masks, gone, {tree.same(image.stem) for image in good})
  for kind, some in sorted((below | {GOOD: good}).items()):
    for image in some:
      if kind == GOOD or image in images:
        yield Sample(image, kind, own.get(image, ()))


def _kinds(folders: Iterable[Folder]) -> dict[str, Folder]:
  kinds = {}
  for one in folders:
    inner = tree.filled(one.inside('', BAD)) if one.role == BAD else []
    for kind in [one] if one.images or not inner else inner:
      if kind.name in (*kinds, GOOD):
        raise ValueError(
          f'{kind.path}: another folder of test images is called so; rename one'
        )
      kinds[kind.name] = kind
  return kinds
