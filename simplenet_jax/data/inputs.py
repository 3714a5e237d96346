"""One category as the network sees it: pixels, masks and their frames."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.data import folder, images
from simplenet_jax.data.frame import Frame, text, whole_input_size
from simplenet_jax.data.record import File
from simplenet_jax.protocols import Config

# Beyond this ratio of aspects an image is visibly squashed.
_ASPECT_TOLERANCE = 1.05
_LOOKED_AT = 16  # Images whose values are looked at beforehand, at most.


@dataclasses.dataclass(frozen=True)
class Inputs:
  """A category's images, all brought to one input size.

  Attributes:
    category: The files.
    train: Frame of each training image.
    test: Frame of each test image.
    mask_rule: How masks are reduced to the input, see `Frame.mask_to_input`.
    bits: Of 16-bit gray images, see `images.read_image`.
  """

  category: folder.Category
  train: tuple[Frame, ...]
  test: tuple[Frame, ...]
  mask_rule: Literal['reference', 'half']
  bits: int

  @property
  def name(self) -> str:
    """The category's name."""
    return self.category.name

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of the network's input, in pixels."""
    return self.train[0].input

  @property
  def images(self) -> int:
    """Number of all images: training, then test."""
    return len(self.train) + len(self.test)

  @property
  def labels(self) -> np.ndarray:
    """0 for normal, 1 for defective test images, int `[test]`."""
    return np.array([sample.label for sample in self.category.test], int)

  def train_pixels(self, index: int) -> np.ndarray:
    """Returns a training image, uint8 `[*size, 3]`."""
    image = images.read_image(self.category.train[index], self.bits)
    return self.train[index].image_to_input(image)

  def pixels(self, index: int) -> np.ndarray:
    """Returns one of all images, uint8 `[*size, 3]`.

    A test image's mask is read too, so that one that cannot be is found before
    anything is trained.
    """
    split = len(self.train)
    if index < split:
      return self.train_pixels(index)
    self.original_mask(index - split)
    return self.test_pixels(index - split)

  def test_pixels(self, index: int) -> np.ndarray:
    """Returns a test image, uint8 `[*size, 3]`."""
    return self.test[index].image_to_input(self.test_image(index))

  def test_image(self, index: int) -> Image.Image:
    """Returns a test image as it is stored, RGB."""
    return images.read_image(self.category.test[index].path, self.bits)

  def original_mask(self, index: int) -> np.ndarray | None:
    """Returns a test image's mask as it is stored.

    Returns:
      bool `[height, width]` of the original image; all False for a normal
      image, None for a defective one without a mask.
    """
    sample = self.category.test[index]
    if sample.mask is not None:
      return images.read_mask(sample.mask, sample.path) > 0
    if sample.label:
      return None
    return np.zeros(self.test[index].original, bool)

  def mask(self, index: int) -> np.ndarray | None:
    """Returns a test image's mask in the input's pixels.

    Returns:
      bool `[*size]`, or None for a defective image without a mask.
    """
    mask = self.original_mask(index)
    if mask is None:
      return None
    return self.test[index].mask_to_input(mask, self.mask_rule)


def prepare(category: folder.Category, data: Config) -> Inputs:
  """Reads every image's and mask's header and lays out the frames.

  So wrong files are found before anything is computed.

  Args:
    category: The files.
    data: The `data` section of a config.

  Returns:
    The category's inputs.

  Raises:
    ValueError: If a file is not an image, or a mask's size is not its image's.
  """
  train = [images.image_size(path) for path in category.train]
  test = [images.image_size(sample.path) for sample in category.test]
  for sample, size in zip(category.test, test, strict=True):
    if sample.mask and (found := images.image_size(sample.mask)) != size:
      raise ValueError(
        f'{sample.mask}: the mask is {text(found)} but its image {sample.path} '
        f'is {text(size)} (height x width); they must be equal'
      )
  # What cannot be used later is told here.
  held = [images.image_size(path) for path in category.validation]
  # There are few sizes, and an image's frame is its size's.
  sizes = dict.fromkeys((*train, *test, *held))
  if data.crop:
    frames = {
      size: Frame.protocol(size, data.resize, data.crop) for size in sizes
    }
  else:
    common = collections.Counter(train).most_common(1)[0][0]
    shape = whole_input_size(common, data.resize)
    frames = {size: Frame.whole(size, shape) for size in sizes}
  of_train = tuple(frames[size] for size in train)
  of_test = tuple(frames[size] for size in test)
  if not data.crop:
    paths = [*category.train, *(sample.path for sample in category.test)]
    _warn_if_squashed(category.name, (*of_train, *of_test), paths)
  _warn_of_unused_bits(category, data.bits)
  return Inputs(category, of_train, of_test, data.mask_rule, data.bits)


def _warn_of_unused_bits(category: folder.Category, bits: int) -> None:
  step = -(-len(category.train) // _LOOKED_AT)
  used = max(images.used_bits(path) for path in category.train[::step])
  if 0 < used < bits - 1:  # At most a quarter of the range.
    logging.warning(
      '%s: its 16-bit images seem to use %d bits of %d, which leaves them %d '
      'gray levels; --config.data.bits=12 reads a camera of 12 bits',
      category.name,
      used,
      bits,
      2 ** max(used - bits + 8, 0),
    )


def _warn_if_squashed(
  name: str, frames: Sequence[Frame], paths: Sequence[File]
) -> None:
  def stretch(frame):
    ratios = [a / b for a, b in zip(frame.input, frame.original, strict=True)]
    return max(ratios) / min(ratios)

  squashed = [i for i, f in enumerate(frames) if stretch(f) > _ASPECT_TOLERANCE]
  if squashed:
    logging.warning(
      '%s: %d of %d images have another aspect than the input (%s) and are '
      'squashed to it, the first is %s',
      name,
      len(squashed),
      len(frames),
      text(frames[0].input),
      paths[squashed[0]],
    )
