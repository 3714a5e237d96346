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

from simplenet_jax.data.category import Category, Sample
from simplenet_jax.data.images import EmbeddedImage
from simplenet_jax.data.tree import GOOD

CLASSES = (
  *('airplane', 'automobile', 'bird', 'cat', 'deer'),
  *('dog', 'frog', 'horse', 'ship', 'truck'),
)
SIDE = 32
TRAIN = tuple(f'data_batch_{number}.bin' for number in range(1, 6))
TEST = ('test_batch.bin',)

_BYTES = 1 + 3 * SIDE**2
_IN_A_FILE = 10_000  # Images.


def find_categories(
  root: Path, names: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Lists the images of every normal class, or of those named.

  Nothing but labels is read; pixels are, when they are asked for. All have the
  same test images.

  Raises:
    FileNotFoundError: If a file is missing.
    ValueError: If a file is not what it should be, or there is no such class.
  """
  if unknown := sorted(set(names) - set(CLASSES)):
    raise ValueError(
      f'CIFAR-10 has no class {", ".join(unknown)}; there are '
      f'{", ".join(CLASSES)}'
    )
  train, test = _images(root, TRAIN, 'train'), _images(root, TEST, 'test')
  found = []
  for name in CLASSES:
    if names and name not in names:
      continue
    own = tuple(image for image, label in train if label == name)
    if not own:
      raise ValueError(f'{root}: no training images of the class {name}')
    tested = (Sample(i, GOOD if one == name else one) for i, one in test)
    found.append(Category(name, own, tuple(tested)))
  return tuple(found)


def _images(
  root: Path, files: Sequence[str], split: str
) -> list[tuple[EmbeddedImage, str]]:
  """Returns the training or the test images, each with its class."""
  found = []
  for path in (root / name for name in files):
    records = _open(path)
    if len(records) != _IN_A_FILE:
      logging.warning(
        f'{path}: {len(records)} images, CIFAR-10 has {_IN_A_FILE}; is it '
        'whole?'
      )
    labels = np.array(records[:, 0]).tolist()
    if max(labels) >= len(CLASSES):
      raise ValueError(
        f'{path}: holds the label {max(labels)}, expected 0 to '
        f'{len(CLASSES) - 1}; the file is damaged'
      )
    for row, name in enumerate(CLASSES[label] for label in labels):
      image = EmbeddedImage(
        place=PurePosixPath('cifar10', split, name, f'{len(found):05}.png'),
        origin=str(root),
        read_bytes=functools.partial(_encode, records, row),
        bytes=_BYTES,
        size=(SIDE, SIDE),
      )
      found.append((image, name))
  return found


def _encode(records: np.ndarray, row: int) -> bytes:
  """Encodes a record, its label and the red, green, blue planes, as PNG."""
  pixels = records[row, 1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
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
