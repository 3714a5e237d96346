"""What the paper shows of its own sweeps, in percent.

Liu et al., SimpleNet, CVPR 2023: means over MVTec AD's categories with a
WideResNet50-2, unless a row names another. The paper does not say how an epoch
was chosen; its released code keeps the best on the test images.
"""

import dataclasses

from simplenet_jax.evaluation import published

# By sweep and variant: image and pixel AUROC.
TABLES: dict[str, dict[str, tuple[float, float]]] = {
  'table2': {
    '1': (93.0, 94.2),
    '2': (98.4, 96.7),
    '3': (99.2, 97.5),
    '1+2': (96.7, 96.7),
    '2+3': (99.6, 98.1),
    '1+2+3': (99.1, 98.1),
  },
  'table3': {
    'linear': (99.6, 98.1),
    'non-linear': (98.3, 97.2),
    'none': (99.2, 97.9),
    'cross-entropy': (99.4, 97.8),
  },
  'table4': {
    'resnet18': (98.3, 95.7),
    'resnet50': (99.6, 98.0),
    'resnet101': (99.2, 97.6),
    'wide_resnet50_2': (99.6, 98.1),
  },
}
SELECTION = published.SELECTED_ON_TEST


@dataclasses.dataclass(frozen=True)
class Speed:
  """A published speed: frames per second on a device, and image AUROC."""

  name: str
  frames_per_second: float
  device: str
  image_auroc: float


SPEED = Speed('paper', 77.0, 'GeForce GTX 3080 Ti', 99.6)
