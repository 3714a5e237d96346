"""MVTec AD as far as its sizes go, for benchmarks that need no pictures."""

import dataclasses
import io

import numpy as np
from PIL import Image

from simplenet_jax.data.frame import Frame

# MVTec AD's categories: training images, normal and defective test images.
SIZES = {
  'bottle': (209, 20, 63),
  'cable': (224, 58, 92),
  'capsule': (219, 23, 109),
  'carpet': (280, 28, 89),
  'grid': (264, 21, 57),
  'hazelnut': (391, 40, 70),
  'leather': (245, 32, 92),
  'metal_nut': (220, 22, 93),
  'pill': (267, 26, 141),
  'screw': (320, 41, 119),
  'tile': (230, 33, 84),
  'toothbrush': (60, 12, 30),
  'transistor': (213, 60, 40),
  'wood': (247, 19, 60),
  'zipper': (240, 32, 119),
}


@dataclasses.dataclass(frozen=True)
class Decoded:
  """A category whose training images lie in memory; it has no others.

  Attributes:
    name: The category's.
    shared: uint8 `[images, *size, 3]`, of all categories.
    images: How many of them are this one's.
  """

  name: str
  shared: np.ndarray
  images: int

  @property
  def size(self) -> tuple[int, int]:
    """Height and width, in pixels."""
    return self.shared.shape[1], self.shared.shape[2]

  @property
  def train(self) -> range:
    """The training images."""
    return range(self.images)

  @property
  def test(self) -> tuple[()]:
    """None."""
    return ()

  def pixels(self, index: int) -> np.ndarray:
    """Returns an image, uint8 `[*size, 3]`."""
    return self.shared[index]


def encode(pixels: np.ndarray) -> bytes:
  """Returns a smooth image of MVTec AD's usual size as a PNG file holds it."""
  file = io.BytesIO()
  size = (1024, 1024)
  Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(
    file, 'png'
  )
  return file.getvalue()


def decode(file: bytes, side: int) -> np.ndarray:
  """Returns a file's pixels, uint8 `[side, side, 3]`."""
  image = Image.open(io.BytesIO(file)).convert('RGB')
  frame = Frame.protocol((image.height, image.width), side + 41, side)
  return frame.image_to_input(image)
