"""What a detector says of an image."""

import dataclasses

import numpy as np
from PIL import Image

from simplenet_jax.data.frame import Frame
from simplenet_jax.data.images import File
from simplenet_jax.detection.thresholds import Thresholds


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What a detector says of one image.

  Attributes:
    source: The image's path or record, or its place among those given, from
      0.
    score: How anomalous it is, unbounded; the highest of its patches'.
    thresholds: Those of the detector.
    frame: Where the input's pixels lie in the image.
    input_map: Anomaly map in the input's pixels, float32 `[*input]`.
    seconds: What reading took, and its share of the time for which the host was
      held up by the device.
    thumbnail: The image as RGB, reduced, where `predict` was asked to keep it.
  """

  source: File | int
  score: float
  thresholds: Thresholds
  frame: Frame
  input_map: np.ndarray
  seconds: float
  thumbnail: Image.Image | None = None

  @property
  def anomalous(self) -> bool | None:
    """The verdict; None where the detector has no threshold."""
    limit = self.thresholds.image
    return None if limit is None else self.score > limit

  @property
  def normalised(self) -> float:
    """The score where 0 is usual and 1 is the threshold, unbounded.

    Raises:
      ValueError: If the detector was not calibrated.
    """
    return self.thresholds.normalised(self.score)

  @property
  def map(self) -> np.ndarray:
    """Anomaly map in the image's own pixels, float32 `[height, width]`.

    NaN where the detector did not look, outside the crop. Made anew each time.
    """
    return self.frame.map_to_original(self.input_map)

  @property
  def mask(self) -> np.ndarray | None:
    """Pixels beyond the threshold, bool `[height, width]`; None without one."""
    limit = self.thresholds.pixel
    return None if limit is None else self.map > limit
