"""CIFAR-10, one class against the others, on a part of it and on two cores.

  python -m benchmarks.cifar10 --root=data/cifar10 --weights=resnet18...

The recipe of configs/folder.py with one head, images resized to 128 pixels;
`no training` is the distance to the nearest good patches alone. The paper's
Table 5 has a mean I-AUROC of 86.5 for all of CIFAR-10 with WideResNet50-2 at
224 pixels: what is measured here is another thing, and stands beside it for
orientation. Writes benchmarks/results/cifar10.json.
"""

import pathlib
import tempfile
from typing import Any

from absl import flags

from benchmarks import timing
from simplenet_jax import cli, train
from simplenet_jax.config import load_config

_ROOT = flags.DEFINE_string('root', 'data/cifar10', 'Holds its binary files.')
_WEIGHTS = flags.DEFINE_string('weights', '', "ImageNet's ResNet18.")
_BACKBONES = flags.DEFINE_multi_string(
  'backbones', ['efficientnet_lite0', 'resnet18'], 'The networks.'
)
_SIDE = 128


def measure(backbone: str, weights: str) -> dict[str, Any]:
  """Returns I-AUROC by class, of the recipe and without training."""
  config = load_config('cifar10:combined')
  config.data.root, config.data.resize = _ROOT.value, _SIDE
  config.data.crop = 0
  config.backbone.name, config.backbone.weights = backbone, weights
  config.seeds, config.train.folds = (0,), False
  config.evaluation.baseline = config.nearest.size
  config.evaluation.pictures, config.evaluation.report = 0, False
  config.detector.save = config.engine.tensorboard = False
  with tempfile.TemporaryDirectory() as place:
    found = train.train_and_evaluate(config, pathlib.Path(place))
  classes = {
    name: {
      'combined': one['last']['image_auroc']['mean'],
      'no training': one['baseline']['image_auroc']['mean'],
    }
    for name, one in found['categories'].items()
  }
  means = {
    column: sum(one[column] for one in classes.values()) / len(classes)
    for column in ('combined', 'no training')
  }
  return {'mean': means, 'classes': classes}


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  named = {'resnet18': _WEIGHTS.value}
  result = {
    'what': 'I-AUROC, one seed, the last epoch, images of 32 pixels resized '
    f'to {_SIDE}',
    'paper': 'all of CIFAR-10, WideResNet50-2 at 224 pixels: 0.865',
    'backbones': {
      name: measure(name, named.get(name, '')) for name in _BACKBONES.value
    },
  }
  timing.write('cifar10', result)


if __name__ == '__main__':
  cli.run(main)
