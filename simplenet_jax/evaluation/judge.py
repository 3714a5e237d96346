"""One category's test set, and what heads' scores are worth on it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.models import scoring

BLOCK = 32  # Images whose maps are made at a time: memory holds no more.


@dataclasses.dataclass(frozen=True)
class Judge:
  """Compares scores with the ground truth.

  Attributes:
    labels: 0 for normal, 1 for defective images, int `[images]`.
    kinds: The names of their defects, or of good, str `[images]`.
    known: Images whose pixels are known: those that are normal or have a mask,
      int `[known]`. Pixel metrics are taken over these.
    masks: Their masks, bool `[known, *size]`; None where no defective image has
      one, and pixel metrics are undefined.
    size: Height and width of the network's input, in pixels.
    smoothing: Sigma of the anomaly maps' Gaussian, in pixels.
  """

  labels: np.ndarray
  kinds: np.ndarray
  known: np.ndarray
  masks: np.ndarray | None
  size: tuple[int, int]
  smoothing: float

  @classmethod
  def of(cls, inputs: Inputs, smoothing: float) -> 'Judge':
    """Reads a category's masks."""
    masks = [inputs.mask(index) for index in range(len(inputs.test))]
    known = np.array([i for i, mask in enumerate(masks) if mask is not None])
    has_masks = any(inputs.labels[known.astype(int)])
    return cls(
      labels=inputs.labels,
      kinds=np.array([sample.defect for sample in inputs.category.test]),
      known=known.astype(int),
      masks=np.stack([masks[i] for i in known]) if has_masks else None,
      size=inputs.size,
      smoothing=smoothing,
    )

  @property
  def can_select(self) -> bool:
    """Whether the test images tell one epoch from another: both kinds exist."""
    return 0 < self.labels.sum() < len(self.labels)

  def maps(self, patch_scores: np.ndarray) -> np.ndarray:
    """Returns anomaly maps, float32 `[images, *size]`.

    Args:
      patch_scores: `[images, H, W]`.
    """
    maps = np.empty((len(patch_scores), *self.size), np.float32)
    for start in range(0, len(maps), BLOCK):
      some = patch_scores[start : start + BLOCK]
      # Padded, so that one program serves every number of images.
      padded = np.pad(some, [(0, BLOCK - len(some)), (0, 0), (0, 0)])
      made = scoring.anomaly_maps(padded, self.size, self.smoothing)
      maps[start : start + BLOCK] = np.asarray(made)[: len(some)]
    return maps

  def image_auroc(self, patch_scores: np.ndarray) -> float:
    """Returns the image AUROC in [0, 1] of patch scores `[images, H, W]`."""
    return metrics.auroc(self.labels, _image_scores(patch_scores))

  def pixel_auroc(self, patch_scores: np.ndarray) -> float:
    """Returns the pixel AUROC in [0, 1] of patch scores `[images, H, W]`."""
    if self.masks is None:
      return float('nan')
    return metrics.auroc(self.masks, self.maps(patch_scores[self.known]))

  def evaluate(self, patch_scores: np.ndarray) -> dict[str, float]:
    """Returns all metrics of patch scores `[images, H, W]`.

    Image metrics are taken over all images, pixel metrics over those known.
    """
    scores = _image_scores(patch_scores)
    values = metrics.evaluate(self.labels, scores, None, None)
    if self.masks is None:
      return values
    pixels = metrics.evaluate(
      self.labels[self.known],
      scores[self.known],
      self.masks,
      self.maps(patch_scores[self.known]),
    )
    for name in metrics.PIXEL_METRICS:
      values[name] = pixels[name]
    return values

  def course(self, scores: Mapping[int, np.ndarray]) -> list[dict[str, float]]:
    """Returns the epoch, image AUROC and pixel AUROC of every scoring.

    Args:
      scores: Patch scores `[images, H, W]` by epoch, ascending.
    """
    return [
      {
        'epoch': epoch,
        'image_auroc': self.image_auroc(found),
        'pixel_auroc': self.pixel_auroc(found),
      }
      for epoch, found in scores.items()
    ]

  def best_epoch(self, scores: Mapping[int, np.ndarray]) -> int:
    """Picks the best test epoch, as the released code does.

    Args:
      scores: Patch scores `[images, H, W]` by epoch, ascending.
    """
    epochs: Sequence[int] = list(scores)
    return results.select_best(
      epochs,
      [self.image_auroc(scores[epoch]) for epoch in epochs],
      lambda epoch: self.pixel_auroc(scores[epoch]),
    )


def _image_scores(patch_scores: np.ndarray) -> np.ndarray:
  return patch_scores.max(axis=(1, 2))
