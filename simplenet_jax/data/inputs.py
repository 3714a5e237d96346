"""One category as the network sees it: pixels, masks and their frames."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.config import Config
from simplenet_jax.console import console
from simplenet_jax.data import decoding, images, loading, roi
from simplenet_jax.data.category import Category
from simplenet_jax.data.frame import Frame, MaskRule, text, whole_input_size

# Why the pixels of a defective image are not known.
NO_MASK = 'no mask'
BLACK = 'mask all black'
INVERTED = 'mask of most of the image, perhaps inverted'
OTHER_SIZE = 'mask of another size'
UNREADABLE = 'mask that cannot be read'
OUTSIDE = 'defect outside the crop'
IGNORED = 'defect outside the region of interest'
VANISHED = 'defect that vanishes in the input'

# What was done about masks that count all the same.
NOISY = 'compression noise: pixels count from half of the brightest up'
SMALL = 'regions that would vanish in the input, of which one pixel is kept'
LOST = 'regions that vanish in the input, as in the released code'
CUT = 'defective pixels outside the crop'
TURNED = 'turned by EXIF data; masks are taken as drawn on what a viewer shows'

# A mask of more than the first share of an image is taken for an inverted one,
# and so is one of more than the second and of most of the image's border.
_ALL, _MOST, _BORDER = 0.9, 0.5, 0.8
_DARK = 31  # Up to this value, a JPEG of a black picture may have noise.


class Truth(NamedTuple):
  """What is known of which of an image's pixels are defective."""

  original: np.ndarray | None = None  # bool `[height, width]` of the image.
  reduced: np.ndarray | None = None  # The same in the input's pixels.
  why: str = ''  # Why both are unknown.
  notes: tuple[str, ...] = ()  # What was done about the masks.
  cut: int = 0  # Defective pixels of the image that the crop leaves out.


@dataclasses.dataclass(frozen=True)
class Inputs:
  """A category's images, all brought to one input size."""

  category: Category
  train: tuple[Frame, ...]  # Of each training image.
  test: tuple[Frame, ...]
  mask_rule: MaskRule
  bits: int  # See `images.read_image`.
  # Why which test images' defective pixels are unknown.
  unknown: Mapping[int, str] = dataclasses.field(default_factory=dict)
  # Where images are looked at, bool `[*size]`; None: everywhere.
  roi: np.ndarray | None = None

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

  def pixels(self, index: int) -> np.ndarray:
    """Returns one of all images, training first, as uint8 `[*size, 3]`."""
    if (tested := index - len(self.train)) >= 0:
      return self.test[tested].image_to_input(self.test_image(tested))
    image = images.read_image(self.category.train[index], self.bits)
    return self.train[index].image_to_input(image)

  def test_image(self, index: int) -> Image.Image:
    """Returns a test image as a viewer shows it, RGB."""
    return images.read_image(self.category.test[index].path, self.bits)

  def truth(self, index: int) -> Truth:
    """Returns what is known of a test image's pixels."""
    sample, frame = self.category.test[index], self.test[index]
    if sample.label:
      return examine(sample.masks, frame, self.mask_rule, self.roi)
    return Truth(np.zeros(frame.original, bool), np.zeros(frame.input, bool))

  def known_pixels(self) -> dict[str, object]:
    """Returns over how many test images pixel figures are, and why not all."""
    return {
      'images': len(self.test) - len(self.unknown),
      'of': len(self.test),
      'left_out': dict(collections.Counter(self.unknown.values())),
    }


def prepare(
  category: Category,
  data: Config,
  checked: Mapping[images.File, images.Checked] | None = None,
) -> Inputs:
  """Lays out the frames of a category's images, and tells what is doubtful."""
  known = checked or {path: images.check(path) for path in category.images()}
  # There are few sizes, and images of one size share a frame.
  sizes = collections.Counter(known[path].size for path in category.train)
  whole = whole_input_size(sizes.most_common(1)[0][0], data.resize)
  frames = {
    size: Frame.of(size, data.resize, data.crop, whole)
    for size in {one.size for one in known.values()}
  }
  train = {path: frames[known[path].size] for path in category.train}
  region = None
  if data.roi:
    drawn = roi.read(data.roi, '--config.data.roi', category.name)
    frame = Frame.of(drawn.shape, data.resize, data.crop, whole)
    source = f'{category.name}: --config.data.roi={data.roi}'
    ratios = [width / height for height, width in sizes]
    region = roi.to_input(drawn, frame, source, (min(ratios), max(ratios)))
    console.print(
      f'  {category.name}: {region.mean():.0%} of each image is looked at'
    )
  test = {one.path: frames[known[one.path].size] for one in category.test}
  every = train | test
  squashed = [path for path, one in every.items() if one.is_squashed]
  if squashed:
    logging.warning(
      f'{category.name}: {len(squashed)} of {len(every)} images have another '
      f'aspect than the input ({text(whole)}) and are squashed to it, the '
      f'first is {squashed[0]}'
    )
  gray = max(known[path].gray_bits for path in category.train)
  colour = max(known[path].colour_bits for path in category.train)
  bits = '--config.data.bits=12 reads a camera of 12 bits'
  save = 'save them as 8 bit, or with their values in the upper bits'
  used_and_held = ('gray', gray, data.bits, bits), ('colour', colour, 16, save)
  for kind, used, held, remedy in used_and_held:
    if 0 < used < held - 1:  # At most a quarter of the range.
      logging.warning(
        f'{category.name}: its 16-bit {kind} images seem to use {used} bits of '
        f'{held}, which leaves them {2 ** max(used - held + 8, 0)} levels; '
        f'{remedy}'
      )

  def look(index: int) -> Truth:
    sample = category.test[index]
    frame, rule = test[sample.path], data.mask_rule
    found = examine(sample.masks, frame, rule, region)
    turned = (TURNED,) if sample.masks and known[sample.path].turned else ()
    # The masks themselves would take too much memory.
    return Truth(None, None, found.why, (*found.notes, *turned), found.cut)

  defective = [i for i, sample in enumerate(category.test) if sample.label]
  looked = loading.in_order(look, defective, ahead=64)
  truths = dict(zip(defective, looked, strict=True))
  _warn_of_masks(category, truths)
  unknown = {index: one.why for index, one in truths.items() if one.why}
  frames = tuple(train.values()), tuple(test.values())
  return Inputs(category, *frames, data.mask_rule, data.bits, unknown, region)


def _warn_of_masks(category: Category, truths: Mapping[int, Truth]) -> None:
  noted, cut = collections.defaultdict(list), collections.Counter()
  for index, truth in truths.items():
    for note in filter(None, (truth.why, *truth.notes)):
      noted[note].append(category.test[index].path)
      cut[note] += truth.cut
  if len(noted[NO_MASK]) in (0, len(truths)):  # There may be no masks at all.
    del noted[NO_MASK]
  unknown = {truth.why for truth in truths.values()}
  for note, found in noted.items():
    out = '; left out of pixel figures' if note in unknown else ''
    if note in (OUTSIDE, CUT):
      out += f' ({cut[note]} defective pixels in all)'
    logging.warning(
      f'{category.name}: {len(found)} of {len(truths)} defective images: '
      f'{note}{out}; such as {found[0]}'
    )


def examine(
  masks: Sequence[images.File],
  frame: Frame,
  rule: MaskRule,
  region: np.ndarray | None = None,
) -> Truth:
  """Reads a defective image's masks, which count in a `region` `[*input]`."""
  if not masks:
    return Truth(why=NO_MASK)
  try:
    read = [read_mask(path) for path in masks]
  except (ValueError, OSError):
    return Truth(why=UNREADABLE)
  if any(defect.shape != frame.original for defect, _ in read):
    return Truth(why=OTHER_SIZE)
  defect = np.any([one for one, _ in read], axis=0)
  if not defect.any():
    return Truth(why=BLACK)
  border = np.r_[defect[0], defect[-1], defect[1:-1, 0], defect[1:-1, -1]]
  share = defect.mean()
  if share > _ALL or (share > _MOST and border.mean() > _BORDER):
    return Truth(why=INVERTED)
  top, left, bottom, right = frame.scored
  cut = int(defect.sum() - defect[top:bottom, left:right].sum())
  reduced, lost = frame.mask_to_input(defect, rule)
  if not reduced.any():
    return Truth(why=OUTSIDE if cut == defect.sum() else VANISHED, cut=cut)
  if region is not None:
    reduced &= region
    if not reduced.any():
      return Truth(why=IGNORED)
  notes = [NOISY] if any(noisy for _, noisy in read) else []
  notes += [LOST if rule == 'reference' else SMALL] if lost else []
  notes += [CUT] if cut else []
  return Truth(defect, reduced, '', tuple(notes), cut)


def read_mask(path: images.File) -> tuple[np.ndarray, bool]:
  """Reads a defect mask, bool `[height, width]`; says whether it had noise.

  Every pixel that is not black is a defect, in any format; alpha is ignored.
  In a JPEG, or where gray levels look like the noise of one, only pixels from
  half of the brightest up count; a JPEG as dark as noise is black.
  """
  return images.decode(path, _to_mask)


def _to_mask(image: Image.Image) -> tuple[np.ndarray, bool]:
  lossy = image.format in ('JPEG', 'MPO')
  image = decoding.upright(image)
  image.info.pop('transparency', None)  # Pillow warns when it drops it itself.
  if image.mode not in ('1', 'L', *decoding.GRAY16):
    image = image.convert('L' if image.mode == 'LA' else 'RGB')
  values = np.asarray(image)
  values = values.max(axis=-1) if values.ndim == 3 else values
  bound = _noise(values, lossy)
  defect = values > bound
  return defect, bool(bound) and bool((~defect & (values > 0)).any())


def _noise(values: np.ndarray, lossy: bool) -> int:
  """Returns up to which value pixels are noise; 0 if there is none."""
  peak = int(values.max())
  if lossy:
    return max(peak // 2, _DARK)
  if values.dtype == bool or peak < 128:
    return 0
  levels, counts = np.unique(values, return_counts=True)
  share = levels / peak
  # Noise lies close to black and to white, numbers of classes anywhere.
  near_black = (share > 0) & (share < 0.2)
  near_white = share > 0.8
  between = counts[(share >= 0.2) & (share <= 0.8)].sum()
  noisy = near_white.sum() > 1 + (near_black.sum() < 2) and near_black.any()
  few = between <= 0.25 * counts[near_white].sum()
  return peak // 2 if noisy and few else 0
