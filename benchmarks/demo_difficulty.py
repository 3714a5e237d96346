"""Measures how hard the demo data set is, from pixel statistics to ImageNet.

A demo proves little if anything solves it. So the set must be hard for a
Gaussian per pixel and for an untrained network, and easy for one that knows
ImageNet; the network that comes with the package stands between them.

  python -m benchmarks.demo_difficulty --weights=resnet18.safetensors

Writes benchmarks/results/demo_difficulty.json. Methods that are left out
(`--method=demo` measures only that one) keep the figures that stand there;
versions and device are those of the last call.
"""

import contextlib
import json
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import scipy.ndimage
from absl import flags
from flax import nnx
from safetensors.numpy import save_file

from benchmarks import resnet18
from configs import demo as demo_config
from simplenet_jax import cli, environment, train
from simplenet_jax.config import Config
from simplenet_jax.data import dataset
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.models import resnet, weights

_RESULT = pathlib.Path(__file__).parent / 'results' / 'demo_difficulty.json'
_WEIGHTS = flags.DEFINE_string(
  'weights',
  weights.DEFAULT_WEIGHTS['resnet18'],
  "ImageNet's ResNet18: a file, or a name on the Hugging Face hub.",
)
_DATA = flags.DEFINE_string('data', 'data/demo', 'Where the sets are kept.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Number of data sets.', 1)
_METHODS = flags.DEFINE_multi_enum(
  'method',
  ['gaussian', 'random', 'demo', 'imagenet'],
  ['gaussian', 'random', 'demo', 'imagenet'],
  'What to measure.',
)

# Bounds of the mean image AUROC over categories and data sets.
_AT_MOST = {'gaussian': 0.75, 'random': 0.9}
_AT_LEAST = {'demo': 0.97, 'imagenet': 0.97}

# About a third of the features' deviation, .15 for ImageNet's weights and 1 for
# untrained ones.
_SIGMA = {'random': 0.35, 'imagenet': resnet18.SIGMA}

# Of the Gaussian that smooths the pixels' scores, as in the method's maps.
_SMOOTHING = 4.0

Scores = dict[str, dict[str, float]]


def gaussian(one: Inputs) -> dict[str, float]:
  """Scores a category by each pixel's mean and deviation over training.

  Args:
    one: The category.

  Returns:
    All metrics; an image's score is the highest of its smoothed, squared
    deviations.
  """
  good = _stack(one.train_pixels, len(one.train))
  test = _stack(one.test_pixels, len(one.test))
  deviation = good.std(0) + 1 / 255
  squared = (((test - good.mean(0)) / deviation) ** 2).mean(-1)
  maps = scipy.ndimage.gaussian_filter(squared, (0, _SMOOTHING, _SMOOTHING))
  masks = np.stack(
    [mask for i in range(len(one.test)) if (mask := one.mask(i)) is not None]
  )
  return metrics.evaluate(one.labels, maps.max((1, 2)), masks, maps)


def _stack(read: Callable[[int], np.ndarray], count: int) -> np.ndarray:
  """Returns images, float32 `[count, height, width, 3]` in [0, 1]."""
  return np.stack([np.float32(read(i)) for i in range(count)]) / np.float32(255)


def run(config: Config) -> Scores:
  """Returns the metrics of a run's last epoch, by category."""
  config = config.copy_and_resolve_references()
  config.evaluation.pictures = 0
  config.evaluation.every = config.train.epochs
  with tempfile.TemporaryDirectory() as workdir:
    table = train.train_and_evaluate(config, pathlib.Path(workdir))
  return {
    category: {name: value['mean'] for name, value in result['last'].items()}
    for category, result in table['categories'].items()
  }


@contextlib.contextmanager
def random_weights() -> Iterator[str]:
  """Yields a file with an untrained ResNet18."""
  model = resnet.ResNet('resnet18', (2, 3), rngs=nnx.Rngs(0))
  tensors = weights.to_torch_names(nnx.split(model)[1])
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'random.safetensors'
    save_file(tensors, path)
    yield str(path)


def measure(method: str, config: Config) -> Scores:
  """Returns a method's metrics on one data set, by category."""
  if method == 'gaussian':
    return {
      one.name: gaussian(one)
      for one in dataset.open_categories(config.data).categories
    }
  if method == 'random':
    with random_weights() as source:
      return run(resnet18.settings(config, source, _SIGMA[method]))
  if method == 'imagenet':
    return run(resnet18.settings(config, _WEIGHTS.value))
  return run(config)


def summarise(sets: list[Scores]) -> dict[str, dict[str, float]]:
  """Averages image and pixel AUROC over data sets, and over categories."""
  table = {
    category: {
      metric: statistics.fmean(one[category][metric] for one in sets)
      for metric in ('image_auroc', 'pixel_auroc')
    }
    for category in sets[0]
  }
  rows = list(table.values())
  mean = {m: statistics.fmean(row[m] for row in rows) for m in rows[0]}
  return {**table, 'mean': mean}


def judge(tables: Mapping[str, Mapping]) -> dict[str, bool]:
  """Returns whether each method measured keeps its bound."""
  means = {method: t['mean']['image_auroc'] for method, t in tables.items()}
  return {
    method: _AT_LEAST.get(method, 0) <= mean <= _AT_MOST.get(method, 1)
    for method, mean in means.items()
  }


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  config = demo_config.get_config()
  config.data.root = _DATA.value
  measured: dict[str, list[Scores]] = {m: [] for m in _METHODS.value}
  for seed in range(_SEEDS.value):
    config.data.demo_seed = seed
    for method, sets in measured.items():
      sets.append(measure(method, config))
  before = json.loads(_RESULT.read_text()) if _RESULT.exists() else {}
  tables = before.get('methods', {}) | {
    method: summarise(sets) for method, sets in measured.items()
  }
  per_seed = before.get('per_data_seed', {}) | {
    method: [summarise([one])['mean'] for one in sets]
    for method, sets in measured.items()
  }
  result = {
    'what': 'image and pixel AUROC on the demo set, mean over data seeds',
    'data_seeds': _SEEDS.value,
    'input': config.data.resize,
    'epochs': {'demo': config.train.epochs, 'resnet18': resnet18.EPOCHS},
    'sigma': {'demo': config.train.sigma, **_SIGMA},
    'methods': tables,
    'image_auroc_at_most': _AT_MOST,
    'image_auroc_at_least': _AT_LEAST,
    'kept': judge(tables),
    'per_data_seed': per_seed,
    'versions': environment.versions(),
    'device': environment.device(),
  }
  results.write_json(_RESULT, result)
  print(json.dumps(result, indent=2))


if __name__ == '__main__':
  cli.run(main)
