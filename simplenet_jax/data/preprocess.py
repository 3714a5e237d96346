"""From an image to the input of an exported model.

An export writes the text of `decoding`, its own values of the constants and the
text of `preprocess` into its `preprocess.py`.
"""

from typing import Any

import numpy as np

from simplenet_jax.data.decoding import place_crop, resize, to_image

BITS = 16  # That 16-bit gray images make use of.
SIZE = 288, 288  # Of the model's input, height and width.
RESIZE, CROP = 329, 288  # Without a crop all is resized.


def preprocess(image: Any, channels: str = 'rgb') -> np.ndarray:
  """Brings an image to the model's input, exactly as the detector does.

  Takes a path, a Pillow image, or an array as `to_image` does; OpenCV's have
  the channels 'bgr'. Returns uint8 `[1, *SIZE, 3]`. Raises FileNotFoundError or
  ValueError for what cannot be used.
  """
  rgb = to_image(image, BITS, channels)
  resized, top, left = SIZE, 0, 0
  if CROP:
    resized, top, left = place_crop((rgb.height, rgb.width), RESIZE, CROP)
  box = left, top, left + SIZE[1], top + SIZE[0]
  return np.array(resize(rgb, resized).crop(box))[None]
