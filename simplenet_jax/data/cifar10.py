"""CIFAR-10 one-class: one class is normal, the other nine are anomalies.

The data set's binary version is read (Krizhevsky, Learning Multiple Layers of
Features from Tiny Images, 2009): a record is a label and the red, green and
blue planes of 32 x 32 pixels.

```
<root>/data_batch_1.bin ...    50,000 images, of which one class is trained on
<root>/test_batch.bin          10,000 images, all of them tested
```
"""

import functools
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.data.folder import GOOD, Category, Sample
from simplenet_jax.data.record import Record

CLASSES = (
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
)
SIDE = 32
TRAIN = tuple(f'data_batch_{number}.bin' for number in range(1, 6))
TEST = ('test_batch.bin',)

_BYTES = 1 + 3 * SIDE**2
_IN_A_FILE = 10_000  # Images.


def find_categories(
  root: Path, names: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Lists the images of every class's one-class problem.

  Nothing but labels is read; pixels are, when they are asked for.

  Args:
    root: the folder of the binary files.
    names: the normal classes wanted; empty for all ten.

  Returns:
    The categories, in the data set's order; all have the same test images.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is not what it should be, or there is no such class.
  """
  if unknown := sorted(set(names) - set(CLASSES)):
    raise ValueError(
      f'CIFAR-10 has no class {", ".join(unknown)}; there are '
      f'{", ".join(CLASSES)}'
    )
  train, test = _Part(root, TRAIN, 'train'), _Part(root, TEST, 'test')
  tested = [test.record(index) for index in range(len(test.labels))]
  return tuple(
    _category(label, name, train, test, tested)
    for label, name in enumerate(CLASSES)
    if not names or name in names
  )


def _category(
  label: int,
  name: str,
  train: '_Part',
  test: '_Part',
  tested: Sequence[Record],
) -> Category:
  own = np.flatnonzero(train.labels == label)
  if not len(own):
    raise ValueError(f'{train.root}: no training images of the class {name}')
  return Category(
    name,
    tuple(train.record(index) for index in own.tolist()),
    tuple(
      Sample(record, GOOD if other == label else CLASSES[other])
      for record, other in zip(tested, test.labels.tolist(), strict=True)
    ),
  )


class _Part:
  """The training or the test images.

  Attributes:
    root: The folder of the binary files.
    labels: Class of each image, uint8 `[images]`.
  """

  def __init__(self, root: Path, files: Sequence[str], split: str):
    self.root, self._split = root, split
    self._planes, labels = [], []
    for name in files:
      found = _open(root / name)
      self._planes.append(found[:, 1:])
      labels.append(np.array(found[:, 0]))
      if len(found) != _IN_A_FILE:
        logging.warning(
          '%s: %d images, CIFAR-10 has %d; is it whole?',
          root / name,
          len(found),
          _IN_A_FILE,
        )
      if labels[-1].max() >= len(CLASSES):
        raise ValueError(
          f'{root / name}: holds the label {labels[-1].max()}, expected 0 to '
          f'{len(CLASSES) - 1}; the file is damaged'
        )
    self.labels = np.concatenate(labels)
    self._starts = np.cumsum([0, *map(len, labels)])

  def record(self, index: int) -> Record:
    """Returns an image."""
    name = CLASSES[self.labels[index]]
    return Record(
      place=PurePosixPath('cifar10', self._split, name, f'{index:05}.png'),
      origin=str(self.root),
      read_bytes=functools.partial(self._read, index),
      bytes=_BYTES,
      size=(SIDE, SIDE),
    )

  def _read(self, index: int) -> bytes:
    file = int(np.searchsorted(self._starts, index, 'right')) - 1
    planes = self._planes[file][index - self._starts[file]]
    return _encode(planes)


def _encode(planes: np.ndarray) -> bytes:
  """Encodes uint8 `[3 * 32 * 32]`, red, green, blue, as a PNG file."""
  pixels = planes.reshape(3, SIDE, SIDE).transpose(1, 2, 0)
  file = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(pixels)).save(file, 'png')
  return file.getvalue()


def _open(path: Path) -> np.ndarray:
  """Maps a file of records, uint8 `[images, 1 + 3 * 32 * 32]`."""
  if not path.is_file():
    raise FileNotFoundError(
      f"{path}: no such file of CIFAR-10's binary version; python -m "
      'simplenet_jax.download --dataset=cifar10 gets it'
    )
  size = path.stat().st_size
  if not size or size % _BYTES:
    raise ValueError(
      f'{path}: {size} bytes are no whole number of images of {_BYTES}; the '
      'file is damaged'
    )
  return np.memmap(path, np.uint8, 'r').reshape(-1, _BYTES)
