"""What some views need beyond a run's results: made from what it left."""

import functools
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from simplenet_jax.data import dataset
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.loading import Decoder
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics, run_files
from simplenet_jax.evaluation.testset import TestSet
from simplenet_jax.models import patches
from simplenet_jax.models.head import LEAK
from simplenet_jax.sweeps.conduct import Outcome
from simplenet_jax.training import bank, layout, setup
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.record import Record

_ROUNDS = 30  # Predictions that are timed.


def _records(run: Outcome, inputs: Inputs) -> list[Record]:
  """Reads a category's heads, by seed, from their last checkpoints."""
  checkpoints = Checkpoints(run.workdir / 'checkpoints')
  try:
    jobs = layout.make_jobs(run.config, [inputs])
    saved = [checkpoints.load(job) for job in jobs]
  finally:
    checkpoints.close()
  missing = [job.seed for job, one in zip(jobs, saved, strict=True) if not one]
  if missing:
    raise ValueError(
      f'{run.workdir}/checkpoints/{inputs.name} lacks seeds {missing}; delete '
      f'{run.workdir} and run the sweep again'
    )
  return [one[0] for one in saved if one]


def deviations(run: Outcome) -> dict[str, dict[str, list[float]]]:
  """Measures how far each dimension spreads over all training patches.

  Args:
    run: A finished one, with an adaptor.

  Returns:
    By category `features` and `adapted`: standard deviations of the dimensions
    before and after the first seed's adaptor.
  """
  with jax.default_matmul_precision('float32'):  # As features are made.
    return _deviations(run)


def _deviations(run: Outcome) -> dict[str, dict[str, list[float]]]:
  extractor = setup.make_extractor(run.config)
  weights = setup.load_backbone(run.config).state
  found = {}
  for inputs in dataset.open_categories(run.config.data).categories:
    head = _records(run, inputs)[0].head or {}
    layers = [
      (head[key], head.get(key.replace('kernel', 'bias'), 0.0))
      for key in sorted(head)
      if key.startswith('params.adaptor.') and key.endswith('.kernel')
    ]
    parts = []
    decoder = Decoder(inputs.pixels, len(inputs.train), 8)
    try:
      for _, pixels in decoder:
        parts.append(
          jax.device_get(
            _moments(
              extractor,
              run.config.patch.target_dim,
              weights,
              layers,
              pixels,
            )
          )
        )
    finally:
      decoder.close()
    found[inputs.name] = {
      kind: _joined([part[place] for part in parts]).tolist()
      for place, kind in enumerate(('features', 'adapted'))
    }
  return found


@functools.partial(jax.jit, static_argnames=('extractor', 'dim'))
def _moments(extractor: bank.Extractor, dim: int, weights, layers, pixels):
  """Returns count, mean and variance by dimension, before and after."""
  levels = [level.astype(jnp.float32) for level in extractor(weights, pixels)]
  x = jax.vmap(lambda *one: patches.merge(one, extractor.level_offsets, dim))(
    *levels
  )
  results = [x]
  for number, (kernel, bias) in enumerate(layers):
    x = nnx.leaky_relu(x, LEAK) if number else x
    x = jnp.matmul(x, kernel, precision='highest') + bias
  results.append(x)
  return [
    (value[..., 0].size, value.mean((0, 1, 2)), value.var((0, 1, 2)))
    for value in results
  ]


def _joined(parts) -> np.ndarray:
  """Joins moments of several batches (Chan et al., 1979); deviations."""
  counts = np.array([float(count) for count, _, _ in parts])[:, None]
  means = np.stack([np.asarray(mean, np.float64) for _, mean, _ in parts])
  variances = np.stack([np.asarray(var, np.float64) for _, _, var in parts])
  mean = (counts * means).sum(0) / counts.sum()
  inner, outer = counts * variances, counts * (means - mean) ** 2
  return np.sqrt((inner + outer).sum(0) / counts.sum())


def losses(run: Outcome) -> dict[str, list[float]]:
  """Returns a run's loss by category and epoch, mean over seeds."""
  found = {}
  for name in run.results['categories']:
    courses = run_files.read_curves(run.workdir, name).values()
    losses = [course[:, 1] for course in courses]
    found[name] = [statistics.fmean(one) for one in zip(*losses, strict=True)]
  return found


def frames_per_second(run: Outcome) -> float:
  """Times a detector of a run: one image at a time, host to host.

  Raises:
    ValueError: If the run left no detector.
  """
  name = next(iter(run.results['categories']))
  path = run.workdir / 'detectors' / f'{name}.safetensors'
  if not path.exists():
    raise ValueError(f'{path} is missing; set --config.base.detector.save=true')
  detector = Detector.load(path, precision=run.config.precision)
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (1, *detector.size, 3), np.uint8)
  detector.infer(pixels)
  seconds = []
  for _ in range(_ROUNDS):
    start = time.perf_counter()
    detector.infer(pixels)
    seconds.append(time.perf_counter() - start)
  return 1 / statistics.median(seconds)


def sheets(run: Outcome, folder: Path) -> list[Path]:
  """Writes test images with truth, anomaly map and what is found, outlined.

  Found is what scores above the threshold with the best pixel F1 on these very
  images; the title says so.

  Args:
    run: A finished one.
    folder: Where `<category>.png` go.

  Returns:
    Their paths; none of categories without masks.
  """
  written = []
  for inputs in dataset.open_categories(run.config.data).categories:
    name, record = inputs.name, _records(run, inputs)[0]
    test = TestSet.read(inputs, run.config.evaluation.smoothing)
    if test.masks is None or not test.masks.any():
      continue
    scores = record.scores[record.job.epochs]
    threshold = metrics.pixel_curves(
      test.masks, test.maps(scores[test.has_truth])
    ).best
    path = folder / f'{name}.png'
    title = (
      f'{name}: image, truth, anomaly map; outlined is what scores above '
      f'{threshold:.2f}, the best pixel F1, chosen on test.'
    )
    run_files.write_sheet(
      path, title, inputs, test, scores, 8, threshold=threshold
    )
    written.append(path)
  return written
