"""Image folders, in the layouts that people have.

```
<root>/<category>/train/good/...                 good images to train on
<root>/<category>/validation/good/...            good ones for thresholds
<root>/<category>/test/good/...                  good ones to test on
<root>/<category>/test/<defect>/...              defective ones, by kind
<root>/<category>/ground_truth/<defect>/<stem>_mask.png
```

Only the first is required. `naming` has the other names that these folders can
have. Instead, a category can be a folder `good` beside folders of defects and
of masks, of whose good images a fifth is drawn to test on, or a folder of
nothing but good images. Nothing is read but names and, where a suffix does not
tell, contents.
"""

import dataclasses
import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import logging

from simplenet_jax.data import layout, tree
from simplenet_jax.data.naming import Names
from simplenet_jax.data.parts import WHICH
from simplenet_jax.data.record import GOOD, Category, File, Sample

__all__ = (
  'GOOD',
  'NOT_CHOSEN',
  'OUTSIDE',
  'Category',
  'Found',
  'Names',
  'Sample',
  'describe',
  'files',
  'find',
  'find_categories',
  'hold_out',
)

# Why an image is left out.
OUTSIDE = 'outside any folder whose images are used'
NOT_CHOSEN = 'of a category that is not chosen'
TWICE = 'another name of an image that is used already'


@dataclasses.dataclass(frozen=True)
class Found:
  """What is below a folder.

  Attributes:
    categories: Sorted by name.
    left_out: Why which other files are not used.
  """

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

  Returns:
    The categories, each with at least one training image, and every other file.

  Raises:
    FileNotFoundError: If the root is not a folder.
    ValueError: If there are no categories, a name is not there or too long, a
      category has no training images, it cannot be told which images are good,
      or a mask fits no image or several.
  """
  root, names = Path(root), names or Names()
  if not root.is_dir():
    raise FileNotFoundError(f'{root}: no such folder')
  whole, left_out = tree.read(root)
  if missing := names.unmatched([one.path for one in whole.below()]):
    raise ValueError(
      f'{root}: no folder in it is called {", ".join(missing)}, which '
      '--config.data.normal, .defects or .masks name'
    )
  try:
    folders = layout.categories(whole, names)
  except ValueError as error:
    raise ValueError(f'{error}{_unread(left_out)}') from None
  if len(folders) > 1 and all(one.images for one in folders.values()):
    logging.warning(
      '%s: each of %s is taken for a kind of part of its own, with good images '
      'in it; if some hold defects, say so with %s',
      root,
      ', '.join([*folders][:8]) + (' and others' if len(folders) > 8 else ''),
      WHICH,
    )
  forms = {unicodedata.normalize('NFC', name): name for name in folders}
  wanted = {unicodedata.normalize('NFC', name) for name in chosen}
  if missing := sorted(wanted - set(forms)):
    raise ValueError(
      f'{root}: no category {", ".join(missing)}; there are '
      f'{", ".join(folders)}'
    )
  found = []
  for name in sorted(forms[one] for one in wanted or forms):
    one = layout.read(name, folders[name], names, left_out)
    found.append(_once(one, left_out))
  others = {
    image: NOT_CHOSEN
    for name in set(folders) - {one.name for one in found}
    for image in folders[name].all_images()
  }
  used = {file for one in found for file in files(one)}
  for image in whole.all_images():
    if image not in used and image not in left_out:
      left_out[image] = others.get(image, OUTSIDE)
  return Found(tuple(found), left_out)


def _unread(left_out: dict[Path, str]) -> str:
  """Returns what is said of images that are none to this program."""
  unread = [path for path, why in left_out.items() if why == tree.UNREAD]
  if not unread:
    return ''
  return f'; of {tree.UNREAD}, it holds {len(unread)}, such as {unread[0]}'


def find_categories(
  root: Path | str, chosen: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Returns the categories below a folder; see `find`."""
  return find(root, chosen).categories


def files(category: Category) -> Iterator[File]:
  """Yields all files of a category, masks too."""
  yield from category.train
  yield from category.validation
  for sample in category.test:
    yield sample.path
    yield from sample.masks


def hold_out(category: Category, share: float, least: int) -> Category:
  """Keeps training images back to set thresholds by.

  They are drawn at random, the same ones each time. A category that has images
  for validation is left as it is.

  Args:
    category: The images.
    share: Of the training images, in [0, 1); 0: none.
    least: How many at least, but never more than a quarter of them.

  Returns:
    The category with fewer training images.
  """
  count = len(category.train)
  kept_back = min(max(math.floor(share * count), least), count // 4)
  if category.validation or not share or not kept_back:
    return category
  kept, drawn = layout.draw(category.name, category.train, kept_back)
  return dataclasses.replace(
    category, train=tuple(kept), validation=tuple(drawn)
  )


def describe(category: Category) -> str:
  """Counts images: '213 train, 20 held out, 100 test (40 defective, ...)'."""
  defective = sum(sample.label for sample in category.test)
  masks = sum(bool(sample.masks) for sample in category.test)
  held = f'{len(category.validation)} held out, '
  return (
    f'{len(category.train)} train, {held if category.validation else ""}'
    f'{len(category.test)} test'
    f' ({defective} defective, {masks} masks)'
  )


def _once(category: Category, left_out: dict[Path, str]) -> Category:
  """Uses a file once only that links give several names to."""
  tested = {sample.path: sample for sample in category.test}
  paths = [*category.train, *category.validation, *tested]
  again = tree.repeated(path for path in paths if isinstance(path, Path))
  bad = {path for path, sample in tested.items() if sample.label}
  for path, first in again.items():
    if (path in bad) != (first in bad):
      raise ValueError(
        f'{path} and {first} are one file, good by one name and defective by '
        'the other; remove one'
      )
  left_out |= dict.fromkeys(again, TWICE)
  return dataclasses.replace(
    category,
    train=tuple(path for path in category.train if path not in again),
    validation=tuple(path for path in category.validation if path not in again),
    test=tuple(one for one in category.test if one.path not in again),
  )
