"""What reduced precision does to a detector's scores, on real images.

  python -m benchmarks.detector_precision --root=FOLDER \
    --backbone=resnet18 --weights=resnet18.safetensors

FOLDER holds categories in MVTec AD's layout. Heads are trained in the reference
protocol, but for a few epochs of single images and with more noise, to leave
chance behind soon; then every test image is scored by the detector in
float32 and in bfloat16, and by the trainer's own functions. Writes
benchmarks/results/detector_precision.json; takes about ten minutes on two CPU
cores.
"""

import pathlib
import tempfile

import numpy as np
from absl import flags

from benchmarks import timing
from simplenet_jax import cli, train
from simplenet_jax.config import describe_protocol, from_protocol
from simplenet_jax.data import dataset
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics
from simplenet_jax.training import layout
from simplenet_jax.training.checkpoint import Checkpoints

_ROOT = flags.DEFINE_string('root', None, 'The data set.')
_CATEGORIES = flags.DEFINE_list('categories', [], 'Which; empty for all.')
_BACKBONE = flags.DEFINE_string('backbone', 'resnet18', 'Which ResNet.')
_WEIGHTS = flags.DEFINE_string('weights', '', "The backbone's; empty: V1.")
_EPOCHS = flags.DEFINE_integer('epochs', 2, 'To train for.', 1)
flags.mark_flag_as_required('root')


def make_config():
  """Returns the reference protocol's settings with a short schedule."""
  config = from_protocol()
  config.name = 'detector_precision'
  config.data.root = _ROOT.value
  config.data.categories = tuple(_CATEGORIES.value)
  config.backbone.name = _BACKBONE.value
  config.backbone.weights = _WEIGHTS.value
  config.train.epochs, config.train.batch_size = _EPOCHS.value, 1
  config.train.sigma = 0.1
  config.evaluation.every = _EPOCHS.value
  config.evaluation.pictures = 0
  config.engine.tensorboard = False
  return config


def score(detector: Detector, one) -> tuple[np.ndarray, np.ndarray]:
  """Returns image scores and maps of the test images."""
  pixels = [one.test_pixels(index) for index in range(len(one.test))]
  maps, scores = detector.infer(np.stack(pixels))
  return scores, maps


def compare(workdir: pathlib.Path, one, trained: np.ndarray) -> dict:
  """Compares a category's detector in two precisions.

  Args:
    workdir: Of the run.
    one: The category.
    trained: The trainer's patch scores of the test images.
  """
  path = workdir / 'detectors' / one.name
  found = {
    precision: score(Detector.load(path, precision=precision), one)
    for precision in ('float32', 'bfloat16')
  }
  masks = [one.mask(index) for index in range(len(one.test))]
  exact, exact_maps = found['float32']
  reduced, reduced_maps = found['bfloat16']
  return {
    'test_images': len(one.test),
    'range_of_scores': float(np.ptp(exact)),
    'largest_difference_of_scores': {
      'float32, to the trainer': float(
        np.abs(exact - trained.max((1, 2))).max()
      ),
      'bfloat16, to float32': float(np.abs(reduced - exact).max()),
    },
    'largest_difference_of_maps': {
      'bfloat16, to float32': float(np.abs(reduced_maps - exact_maps).max())
    },
    'image_auroc': {
      name: metrics.auroc(one.labels, scores)
      for name, (scores, _) in found.items()
    },
    'pixel_auroc': {
      name: metrics.auroc(np.stack(masks), maps)
      for name, (_, maps) in found.items()
    },
  }


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  config = make_config()
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder)
    train.train_and_evaluate(config, workdir)
    categories = dataset.open_categories(config.data).categories
    checkpoints = Checkpoints(workdir / 'checkpoints')
    saved = map(checkpoints.load, layout.make_jobs(config, categories))
    trained = {
      record.job.category: record.scores[record.job.epochs]
      for record, _ in filter(None, saved)
    }
    checkpoints.close()
    timing.write(
      'detector_precision',
      {
        'what': 'scores of detectors in float32 and bfloat16, and the '
        "trainer's; differences in logits",
        'backbone': _BACKBONE.value,
        'protocol': describe_protocol(config),
        'categories': {
          one.name: compare(workdir, one, trained[one.name])
          for one in categories
        },
      },
    )


if __name__ == '__main__':
  cli.run(main)
