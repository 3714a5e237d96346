"""Image folders in MVTec's layout.

```
<root>/<category>/train/good/*.png
<root>/<category>/validation/good/*.png          good ones not to train on
<root>/<category>/test/<defect>/*.png            test/good holds normal ones
<root>/<category>/ground_truth/<defect>/<stem>_mask.png
```

Only the first folder is required. BTAD's layout is this one, but for the name
of `good`, which is `ok` there. A folder that holds images and none of these
folders is a category of good ones. Nothing is read but file names.
"""

import collections
import dataclasses
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from simplenet_jax.data.record import File

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
GOOD = 'good'
_LONGEST_NAME = (
  200  # Bytes of a category's name; of 255 that file systems take.
)
_NORMAL = (GOOD, 'ok')  # How folders of normal images may be called.
_UNREAD = ('.arw', '.avif', '.cr2', '.dng', '.heic', '.heif', '.nef')


@dataclasses.dataclass(frozen=True)
class Sample:
  """A test image.

  Attributes:
    path: the image.
    defect: its folder's name; 'good' for a normal image.
    mask: its defect mask, if there is one.
  """

  path: File
  defect: str
  mask: File | None = None

  @property
  def label(self) -> int:
    """0 for a normal image, 1 for a defective one."""
    return int(self.defect != GOOD)


@dataclasses.dataclass(frozen=True)
class Category:
  """The images of one kind of object.

  Attributes:
    name: the folder's name.
    train: normal images to train on, sorted by name.
    validation: normal images to set thresholds by; may be empty.
    test: test images, sorted by defect, then name; may be empty.
  """

  name: str
  train: tuple[File, ...]
  test: tuple[Sample, ...]
  validation: tuple[File, ...] = ()


def find_categories(
  root: Path | str, names: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Lists the images of every category below a folder, sorted by name.

  A folder that itself holds `train`, or images and no folders, is one category,
  named after it; so are several folders of nothing but images. Masks are found
  by name ('<stem>_mask' or '<stem>', any image extension), never by position.
  Hidden files and files of other kinds are passed over; photographs of kinds
  that cannot be read are told.

  Args:
    root: the folder of the categories, or of one category.
    names: the categories wanted; empty for all.

  Returns:
    The categories, each with at least one training image.

  Raises:
    FileNotFoundError: the root is not a folder.
    ValueError: no categories, a name that is not there or too long, a category
      without training images, images beside the test folders, a mask without
      an image, or a mask or an image that could belong to several.
  """
  root = Path(root)
  if not root.is_dir():
    raise FileNotFoundError(f'{root}: no such folder')
  inside = _folders(root)
  if _is_category(root) or _is_flat(root):
    found = {root.resolve().name: root}
  else:
    flat = [f for f in inside if not _is_category(f) and _is_flat(f)]
    found = {f.name: f for f in inside if _is_category(f)}
    if found and flat:
      logging.warning(
        '%s has images but no train/%s, and is passed over', flat[0], GOOD
      )
    found = found or {f.name: f for f in flat}
  if not found:
    beside = f' and no folders, as {inside[0].name}' if _images(root) else ''
    raise ValueError(
      f'{root}: no categories; expected <category>/train/{GOOD} or'
      f' train/{GOOD} in it, with images, or nothing but good images'
      f' ({" ".join(EXTENSIONS)}){beside}'
    )
  if missing := sorted(set(names) - set(found)):
    raise ValueError(
      f'{root}: no category {", ".join(missing)}; there are {", ".join(found)}'
    )
  chosen = sorted(set(names)) or found
  return tuple(_read_category(name, found[name]) for name in chosen)


def hold_out(category: Category, share: float, least: int) -> Category:
  """Keeps training images back to set thresholds by.

  They are drawn at random, the same ones each time. A category that has images
  for validation is left as it is.

  Args:
    category: the images.
    share: of the training images, in [0, 1); 0: none.
    least: how many at least, but never more than a quarter of them.

  Returns:
    The category with fewer training images.
  """
  count = len(category.train)
  kept_back = min(max(math.floor(share * count), least), count // 4)
  if category.validation or not share or not kept_back:
    return category
  rng = np.random.default_rng(zlib.crc32(category.name.encode()))
  drawn = set(rng.permutation(count)[:kept_back].tolist())
  return dataclasses.replace(
    category,
    train=tuple(p for i, p in enumerate(category.train) if i not in drawn),
    validation=tuple(p for i, p in enumerate(category.train) if i in drawn),
  )


def describe(category: Category) -> str:
  """Counts images: '213 train, 20 held out, 100 test (40 defective, ...)'."""
  defective = sum(sample.label for sample in category.test)
  masks = sum(sample.mask is not None for sample in category.test)
  held = f'{len(category.validation)} held out, '
  return (
    f'{len(category.train)} train, {held if category.validation else ""}'
    f'{len(category.test)} test'
    f' ({defective} defective, {masks} masks)'
  )


def _is_category(folder: Path) -> bool:
  # One with test images alone is meant as a category too, and is refused by
  # name later; passing over it would leave it out of a table unnoticed.
  return (folder / 'train').is_dir() or (folder / 'test').is_dir()


def _is_flat(folder: Path) -> bool:
  """Whether it holds images, of any kind, and no folders."""
  return not _folders(folder) and any(
    f.suffix.lower() in (*EXTENSIONS, *_UNREAD) for f in _files(folder)
  )


def _files(folder: Path) -> list[Path]:
  if not folder.is_dir():
    return []
  return [f for f in folder.iterdir() if f.name[0] != '.' and f.is_file()]


def _folders(parent: Path) -> list[Path]:
  if not parent.is_dir():
    return []
  entries = (f for f in parent.iterdir() if f.name[0] != '.')
  return sorted(f for f in entries if f.is_dir())


def _images(folder: Path) -> list[Path]:
  return sorted(f for f in _files(folder) if f.suffix.lower() in EXTENSIONS)


def _told_images(folder: Path) -> list[Path]:
  """Lists images, and tells of photographs that are none to us."""
  unread = [f for f in _files(folder) if f.suffix.lower() in _UNREAD]
  if unread:
    logging.warning(
      '%s: %d photographs of a kind that is not read are left out, such as %s; '
      'save them as JPEG or PNG',
      folder,
      len(unread),
      min(unread).name,
    )
  return _images(folder)


def _normal(part: Path) -> Path:
  """Returns the folder of the normal images of a part of a category."""
  good, ok = (part / name for name in _NORMAL)
  if good.is_dir() and ok.is_dir():
    raise ValueError(
      f'{part} holds {good.name} and {ok.name}, both names of normal images; '
      'keep one'
    )
  return ok if ok.is_dir() else good


def _read_category(name: str, folder: Path) -> Category:
  if len(os.fsencode(name)) > _LONGEST_NAME:
    raise ValueError(
      f'{folder}: its name is too long for files that are named after it; at '
      f'most {_LONGEST_NAME} bytes'
    )
  if not _is_category(folder):
    flat = _told_images(folder)
    if not flat:
      raise ValueError(
        f'{folder}: no images that can be read ({" ".join(EXTENSIONS)})'
      )
    return Category(name, tuple(flat), ())
  train = _told_images(_normal(folder / 'train'))
  if not train:
    raise ValueError(
      f'{folder}: no training images; expected train/{GOOD}/*'
      f' ({" ".join(EXTENSIONS)})'
    )
  if stray := _images(folder / 'test'):
    raise ValueError(
      f'{stray[0]}: a test image belongs in test/{GOOD} or test/<defect>'
    )
  _normal(folder / 'test')  # There must not be two.
  defects = {f.name for f in _folders(folder / 'test')}
  masked = {f.name for f in _folders(folder / 'ground_truth')} - {*_NORMAL}
  test = [
    sample
    for defect in sorted(defects | masked)
    for sample in _read_defect(folder, defect)
  ]
  validation = _told_images(_normal(folder / 'validation'))
  return Category(name, tuple(train), tuple(test), tuple(validation))


def _read_defect(folder: Path, defect: str) -> list[Sample]:
  """Pairs the images of one test folder with their masks."""
  images = _told_images(folder / 'test' / defect)
  if defect in _NORMAL:
    return [Sample(image, GOOD) for image in images]
  by_stem = collections.defaultdict(list)
  for image in images:
    by_stem[image.stem].append(image)
  masks: dict[Path, Path] = {}
  for mask in _images(folder / 'ground_truth' / defect):
    image = _image_of(mask, by_stem, folder / 'test' / defect)
    if image in masks:
      raise ValueError(
        f'{image}: two masks, {masks[image].name} and {mask.name} in'
        f' {mask.parent}; keep one'
      )
    masks[image] = mask
  return [Sample(image, defect, masks.get(image)) for image in images]


def _image_of(mask: Path, by_stem: dict[str, list[Path]], folder: Path) -> Path:
  stems = {mask.stem, mask.stem.removesuffix('_mask')}
  candidates = [image for stem in stems for image in by_stem.get(stem, ())]
  if not candidates:
    raise ValueError(
      f'{mask}: a mask without an image; expected'
      f' {folder / mask.stem.removesuffix("_mask")} (.png or the like)'
    )
  if len(candidates) > 1:
    names = ', '.join(sorted(image.name for image in candidates))
    raise ValueError(
      f'{mask}: could belong to {names} in {folder}; rename all but one'
    )
  return candidates[0]
