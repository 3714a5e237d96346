"""Data sets in the layouts in which they are published: VisA and CIFAR-10.

VisA has images and a file that splits them for training on normal ones only:

```
<root>/split_csv/1cls.csv      object, split, label, image, mask
<root>/<object>/Data/Images/{Normal,Anomaly}/*.JPG
<root>/<object>/Data/Masks/Anomaly/*.png
```

CIFAR-10's binary version becomes one-class problems: one class is normal, the
other nine are anomalies. A record is a label and planes of 32 x 32 pixels:

```
<root>/data_batch_1.bin ...    50,000 images, of which one class is trained on
<root>/test_batch.bin          10,000 images, all of them tested
```
"""

import csv
import functools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from absl import logging

from simplenet_jax.data import images, tree
from simplenet_jax.data.category import Category, Sample
from simplenet_jax.data.folder import Found, found_below

SPLIT = Path('split_csv', '1cls.csv')
_COLUMNS = ['object', 'split', 'label', 'image', 'mask']
_KINDS = {  # The defect of a split's images with a label.
  ('train', 'normal'): tree.GOOD,
  ('test', 'normal'): tree.GOOD,
  ('test', 'anomaly'): 'anomaly',
}

CLASSES = tuple(tree.WORDS['categories']['cifar10'])
SIDE = 32
TRAIN = tuple(f'data_batch_{number}.bin' for number in range(1, 6))
TEST = ('test_batch.bin',)
_BYTES = 1 + 3 * SIDE**2
_IN_A_FILE = 10_000  # Images.


def find_visa(root: Path, names: Sequence[str] = ()) -> Found:
  """Lists the images of every object, or of those named, sorted by name."""
  found, used = {}, set()
  with (root / SPLIT).open(newline='', encoding='utf-8-sig') as file:
    lines = csv.reader(file)
    try:
      if next(lines, []) != _COLUMNS:
        raise ValueError('other columns')
      for name, split, label, image, mask in lines:
        if not name or not image or (split, label) not in _KINDS:
          raise ValueError('an image of no such kind')
        paths = [_file(root, path) for path in (image, mask) if path]
        if paths[0] in used:
          raise ValueError(f'{image} is there twice')
        used.update(paths)
        defect = _KINDS[split, label]
        masks = tuple(paths[1:]) if defect != tree.GOOD else ()
        sample = Sample(paths[0], defect, masks)
        found.setdefault(name, {'train': [], 'test': []})[split].append(sample)
      if not used:
        raise ValueError('no images in it')
    except (csv.Error, ValueError) as error:
      kinds = ', '.join(map(' '.join, _KINDS))
      raise ValueError(
        f'{root / SPLIT}, line {lines.line_num}: {error}; expected a table of '
        f'{", ".join(_COLUMNS)}, where images are {kinds}'
      ) from error
  categories = []
  for name in tree.choose(root / SPLIT, names, sorted(found)):
    train = sorted(one.path for one in found[name]['train'])
    test = sorted(found[name]['test'], key=lambda one: (one.defect, one.path))
    if not train:
      raise ValueError(f'{root / SPLIT}: no training images of {name}')
    categories.append(Category(name, tuple(train), tuple(test)))
  return found_below(*tree.read(root), categories, used)


def _file(root: Path, name: str) -> Path:
  if PurePosixPath(name).is_absolute() or '..' in PurePosixPath(name).parts:
    raise ValueError(f'names a file outside {root}: {name}')
  if not (root / name).is_file():
    told = f'no such file, but {SPLIT} names it; is the data set whole?'
    raise FileNotFoundError(f'{root / name}: {told}')
  return root / name


def find_cifar10(root: Path, names: Sequence[str] = ()) -> Found:
  """Lists the images of every normal class, or of those named."""
  chosen = tree.choose('CIFAR-10', names, CLASSES)
  train, test = _images(root, TRAIN, 'train'), _images(root, TEST, 'test')
  found = []
  for name in chosen:
    own = tuple(image for image, label in train if label == name)
    if not own:
      raise ValueError(f'{root}: no training images of the class {name}')
    tested = (Sample(i, tree.GOOD if one == name else one) for i, one in test)
    found.append(Category(name, own, tuple(tested)))
  return Found(tuple(found), {})


def _images(
  root: Path, files: Sequence[str], split: str
) -> list[tuple[images.EmbeddedImage, str]]:
  found = []
  for path in (root / name for name in files):
    records = _open(path)
    if (count := len(records)) != _IN_A_FILE:
      told = f'{count} images, CIFAR-10 has {_IN_A_FILE}; is it whole?'
      logging.warning(f'{path}: {told}')
    # Views: nothing is read yet.
    planes = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    for label, pixels in zip(records[:, 0].tolist(), planes, strict=True):
      name = CLASSES[label]
      place = PurePosixPath(f'cifar10/{split}/{name}/{len(found):05}.png')
      read = functools.partial(images.encoded, pixels)
      image = images.EmbeddedImage(place, str(root), read, _BYTES, (SIDE, SIDE))
      found.append((image, name))
  return found


def _open(path: Path) -> np.ndarray:
  """Maps a file of records, uint8 `[images, 1 + 3 * 32 * 32]`."""
  if not path.is_file():
    raise FileNotFoundError(
      f"{path}: no such file of CIFAR-10's binary version; simplenet "
      'download --dataset=cifar10 gets it'
    )
  size = path.stat().st_size
  if not size or size % _BYTES:
    raise ValueError(
      f'{path}: {size} bytes are no whole number of images of {_BYTES}; the '
      'file is damaged'
    )
  records = np.asarray(np.memmap(path, np.uint8, 'r')).reshape(-1, _BYTES)
  if (most := records[:, 0].max()) >= len(CLASSES):
    raise ValueError(
      f'{path}: holds the label {most}, expected 0 to {len(CLASSES) - 1}; the '
      'file is damaged'
    )
  return records
