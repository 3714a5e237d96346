"""One category as the network sees it: pixels, masks and their frames."""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.config import Config
from simplenet_jax.data import images, loading, masks
from simplenet_jax.data.category import Category
from simplenet_jax.data.frame import (
  ASPECT_TOLERANCE,
  Frame,
  MaskRule,
  text,
  whole_input_size,
)
from simplenet_jax.data.images import File

_LOOKED_AT = 16  # Images whose values are looked at beforehand, at most.


@dataclasses.dataclass(frozen=True)
class Inputs:
  """A category's images, all brought to one input size.

  Attributes:
    category: The files.
    train: Frame of each training image.
    test: Frame of each test image.
    mask_rule: See `Frame.mask_to_input`.
    bits: See `images.read_image`.
    unknown: Why the pixels of which defective test images are unknown, by
      index; see `masks`.
  """

  category: Category
  train: tuple[Frame, ...]
  test: tuple[Frame, ...]
  mask_rule: MaskRule
  bits: int
  unknown: Mapping[int, str] = dataclasses.field(default_factory=dict)

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

  def test_pixels(self, index: int) -> np.ndarray:
    """Returns a test image, uint8 `[*size, 3]`."""
    return self.test[index].image_to_input(self.test_image(index))

  def pixels(self, index: int) -> np.ndarray:
    """Returns one of all images, uint8 `[*size, 3]`."""
    split = len(self.train)
    if index < split:
      return self.train_pixels(index)
    return self.test_pixels(index - split)

  def test_image(self, index: int) -> Image.Image:
    """Returns a test image as a viewer shows it, RGB."""
    return images.read_image(self.category.test[index].path, self.bits)

  def original_mask(self, index: int) -> np.ndarray | None:
    """Returns a test image's defect in its own pixels, bool `[height, width]`.

    All are False for a normal image; None for a defective one whose pixels are
    unknown.
    """
    if not self.category.test[index].label:
      return np.zeros(self.test[index].original, bool)
    return self._truth(index).original

  def mask(self, index: int) -> np.ndarray | None:
    """Returns the same in the input's pixels, bool `[*size]`."""
    if not self.category.test[index].label:
      return np.zeros(self.size, bool)
    return self._truth(index).reduced

  def known_pixels(self) -> dict[str, object]:
    """Returns over how many test images pixel figures are, and why not all."""
    return {
      'images': len(self.test) - len(self.unknown),
      'of': len(self.test),
      'left_out': dict(collections.Counter(self.unknown.values())),
    }

  def _truth(self, index: int) -> masks.Truth:
    files, frame = self.category.test[index].masks, self.test[index]
    return masks.examine(files, frame, self.mask_rule)


def prepare(
  category: Category,
  data: Config,
  checked: Mapping[File, images.Checked] | None = None,
) -> Inputs:
  """Lays out the frames of a category's images, and looks at its masks.

  What is doubtful is told before anything is computed. What `images.check`
  does not say of them in `checked` is read. `data` is a config's section.
  """
  known = dict(checked or {})
  for path in category.images():
    if path not in known:
      known[path] = images.check(path, whole=False)
  # There are few sizes, and images of one size share a frame.
  sizes = {one.size for one in known.values()}
  if data.crop:
    frames = {
      size: Frame.protocol(size, data.resize, data.crop) for size in sizes
    }
  else:
    counts = collections.Counter(known[path].size for path in category.train)
    shape = whole_input_size(counts.most_common(1)[0][0], data.resize)
    frames = {size: Frame.whole(size, shape) for size in sizes}
  train = {path: frames[known[path].size] for path in category.train}
  test = {one.path: frames[known[one.path].size] for one in category.test}
  if not data.crop:
    _warn_if_squashed(category.name, train | test)
  _warn_of_unused_bits(category, data.bits)
  truths = _look_at_masks(category, test, data.mask_rule)
  turned = {path for path, one in known.items() if one.turned}
  _warn_of_masks(category, truths, turned)
  return Inputs(
    category,
    tuple(train.values()),
    tuple(test.values()),
    data.mask_rule,
    data.bits,
    {index: one.why for index, one in truths.items() if one.why},
  )


def _look_at_masks(
  category: Category, frames: Mapping[File, Frame], rule: MaskRule
) -> dict[int, masks.Truth]:
  """Returns what is known of defective test images, without their pixels."""

  def look(index: int) -> masks.Truth:
    sample = category.test[index]
    found = masks.examine(sample.masks, frames[sample.path], rule)
    # The masks themselves would take too much memory.
    return dataclasses.replace(found, original=None, reduced=None)

  defective = [i for i, sample in enumerate(category.test) if sample.label]
  looked = loading.in_order(look, defective, ahead=64)
  return dict(zip(defective, looked, strict=True))


def _warn_of_masks(
  category: Category, truths: Mapping[int, masks.Truth], turned: set[File]
) -> None:
  """Tells what is wrong with masks, and what was done about it."""
  noted, cut = collections.defaultdict(list), collections.Counter()
  for index, truth in truths.items():
    sample = category.test[index]
    notes = [note for note in (truth.why, *truth.notes) if note]
    if sample.masks and sample.path in turned:
      notes.append(masks.TURNED)
    for note in notes:
      noted[note].append(sample.path)
      cut[note] += truth.cut
  if len(noted.get(masks.NO_MASK, ())) == len(truths):
    noted.pop(masks.NO_MASK, None)  # There are no masks at all.
  unknown = {truth.why for truth in truths.values()}
  for note, found in noted.items():
    out = '; left out of pixel figures' if note in unknown else ''
    if note in (masks.OUTSIDE, masks.CUT):
      out += f' ({cut[note]} defective pixels in all)'
    logging.warning(
      f'{category.name}: {len(found)} of {len(truths)} defective images: {note}'
      f'{out}; such as {found[0]}'
    )


def _warn_of_unused_bits(category: Category, bits: int) -> None:
  some = category.train[:: -(-len(category.train) // _LOOKED_AT)]
  of_gray = '--config.data.bits=12 reads a camera of 12 bits'
  of_colour = 'save them as 8 bit, or with their values in the upper bits'
  for kind, held, remedy in (
    ('gray', bits, of_gray),
    ('colour', 16, of_colour),
  ):
    used = max(images.used_bits(path, kind) for path in some)
    if 0 < used < held - 1:  # At most a quarter of the range.
      logging.warning(
        f'{category.name}: its 16-bit {kind} images seem to use {used} bits of '
        f'{held}, which leaves them {2 ** max(used - held + 8, 0)} levels; '
        f'{remedy}'
      )


def _warn_if_squashed(name: str, frames: Mapping[File, Frame]) -> None:
  def stretch(frame: Frame) -> float:
    ratios = [a / b for a, b in zip(frame.input, frame.original, strict=True)]
    return max(ratios) / min(ratios)

  squashed = [p for p, f in frames.items() if stretch(f) > ASPECT_TOLERANCE]
  if squashed:
    size = text(frames[squashed[0]].input)
    logging.warning(
      f'{name}: {len(squashed)} of {len(frames)} images have another aspect '
      f'than the input ({size}) and are squashed to it, the first is '
      f'{squashed[0]}'
    )
