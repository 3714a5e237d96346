"""Times the exact pixel metrics against one argsort of the same pixels.

Run `python -m benchmarks.metrics`; on one core of an AMD EPYC it takes
about half a minute. The result goes to benchmarks/results/metrics.json.
"""

import numpy as np
from scipy import ndimage

from benchmarks import timing
from simplenet_jax.evaluation import metrics

IMAGES, SIDE, ROUNDS = 100, 256, 9
# Of MVTec AD's test images about 70 % are defective, with a few regions each.
DEFECTIVE = 70


def make_maps() -> tuple[np.ndarray, np.ndarray]:
  """Returns masks (uint8) and smooth maps (float32), `[IMAGES, SIDE, SIDE]`."""
  rng = np.random.default_rng(0)
  masks = np.zeros((IMAGES, SIDE, SIDE), np.uint8)
  for mask in masks[:DEFECTIVE]:
    for top, left in rng.integers(0, SIDE - 48, (rng.integers(1, 5), 2)):
      height, width = rng.integers(8, 48, 2)
      mask[top : top + height, left : left + width] = 1
  noise = rng.standard_normal(masks.shape, np.float32) + masks
  return masks, ndimage.gaussian_filter(noise, (0, 4, 4)).astype(np.float32)


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  masks, maps = make_maps()
  labels, scores = masks.any((1, 2)), maps.max((1, 2))
  eight = np.ones((3, 3))
  seconds = timing.in_turns(
    {
      'argsort': lambda: np.argsort(maps.ravel()),
      'label': lambda: [ndimage.label(mask, eight) for mask in masks],
      'evaluate': lambda: metrics.evaluate(labels, scores, masks, maps),
      'pixel_auroc_alone': lambda: metrics.auroc(masks, maps),
    },
    ROUNDS,
  )
  timing.write(
    'metrics',
    {
      'what': 'all image and pixel metrics (AUROC, AP, F1-max, AUPRO at .3, '
      '.05)',
      'images': IMAGES,
      'size': [SIDE, SIDE],
      'defect_pixels': int(masks.sum()),
      'rounds': ROUNDS,
      'median_seconds': {name: round(s, 4) for name, s in seconds.items()},
      'evaluate_over_argsort_and_label': round(
        seconds['evaluate'] / (seconds['argsort'] + seconds['label']), 3
      ),
    },
  )


if __name__ == '__main__':
  main()
