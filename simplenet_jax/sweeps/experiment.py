"""A sweep from its settings to its table and figure: a loop over runs."""

import dataclasses
import functools
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.markdown import Markdown

from simplenet_jax import train
from simplenet_jax.config import Config
from simplenet_jax.console import Stopped, console, counted
from simplenet_jax.data import dataset
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.loading import Decoder
from simplenet_jax.detector import Detector
from simplenet_jax.environment import SINGLE, Processes
from simplenet_jax.evaluation import metrics, run_files
from simplenet_jax.evaluation.tables import format_table
from simplenet_jax.evaluation.testset import TestSet
from simplenet_jax.models import patches
from simplenet_jax.models.head import LEAK
from simplenet_jax.sweeps import best_epoch, figures, settings, tables
from simplenet_jax.training import bank, layout
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.progress import HeadProgress

_ROUNDS = 30  # Predictions that are timed.


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of one run; `results` is what its `results.json` holds."""

  label: str
  config: Config
  workdir: Path
  results: dict[str, Any]


def run(
  config: Config, workdir: Path, processes: Processes = SINGLE
) -> dict[str, Any]:
  """Runs a sweep and writes what it shows.

  Args:
    config: The sweep's settings, from `settings.sweep`.
    workdir: `<name>.json`, `.csv`, `.md`, `.png` and `.svg` are written here,
      the runs below it. A view of pictures has `<name>/<category>.png` in place
      of a figure.
    processes: Which of the processes that share `workdir` this is.

  Returns:
    What the JSON holds, see `tables.collect`; nothing where others train on.

  Raises:
    ValueError: For settings that cannot be used, in the end also if a variant
      failed.
    console.Stopped: If a signal asked to stop; the same command goes on.
  """
  outcomes, failures = run_all(config, workdir, processes)
  if not all(one.results for one in outcomes):
    console.print('  the sweep is told when other processes have ended')
    return {}
  told = [f'{label}: {error}' for label, error in failures.items()]
  if not outcomes:
    raise ValueError(f'all variants failed; {told[0]}')
  collected = tables.collect(config, outcomes, failures)
  for row, one in zip(collected['rows'], outcomes, strict=True):
    if config.view == 'speed':
      row['frames_per_second'] = frames_per_second(one)
      heads = counted(len(row['seeds']), 'head')
      row['speed'] = f'{heads}, {one.config.precision}'
    elif config.view == 'deviations':
      row['deviations'] = deviations(one)
    elif config.view == 'losses':
      row['loss_by_epoch'] = losses(one)
  if config.view == 'versus_best_epoch':
    baseline = config.variants[0][0]
    if baseline in failures:
      raise ValueError(
        f'{baseline}, with which all are compared, failed: {failures[baseline]}'
      )
    found = best_epoch.compare_all(outcomes)
    for row, one in zip(collected['rows'], found, strict=True):
      row['versus_best_epoch'] = one
  table = (
    format_table(outcomes[0].results, 'markdown')
    if config.view == 'categories'
    else tables.markdown(collected)
  )
  paths = tables.write(collected, workdir, table)
  if config.view == 'pictures':
    paths += list(write_sheets(outcomes[0], workdir / config.name))
  else:
    paths += figures.write(collected, workdir / config.name)
  console.print(Markdown(f'# {config.title}\n\n{table}'))
  console.print('\n'.join(['Written:', *(f'  {path}' for path in paths)]))
  if failures:
    raise ValueError(
      f'{len(failures)} of {len(failures) + len(outcomes)} variants failed and '
      f'are left out; {told[0]}'
    )
  return collected


def run_all(
  config: Config, workdir: Path, processes: Processes = SINGLE
) -> tuple[list[Outcome], dict[str, str]]:
  """Trains and evaluates every variant; one that fails stops no other.

  Each run has a directory of its own, named after what it changes. A run that
  is finished there, also by another sweep, is kept. Runs share their features
  by a cache that is removed in the end.

  Returns:
    One outcome per variant, and why others have none, by label.
  """
  expanded = settings.expand(config)
  console.print(
    f'{config.title}: {counted(len(expanded), "variant")}; {workdir}/'
  )
  outcomes, failures = [], {}
  shared = workdir / 'features'
  for label, one in expanded.items():
    own = workdir / settings.folder(config, label, one)
    one.bank.cache = one.bank.cache or str(shared)
    console.print(f'\n{label}')
    try:
      found = train.train_and_evaluate(one, own, processes)
    except Stopped as stopped:
      raise Stopped(
        f'stopped and saved; the same command with --workdir={workdir} goes on',
        stopped.status,
      ) from None
    except (ValueError, OSError) as error:
      failures[label] = str(error)
      console.print(f'  error: {label}: {error}')
    else:
      outcomes.append(Outcome(label, one, own, found))
  if all(one.results for one in outcomes):  # No other process is under way.
    shutil.rmtree(shared, ignore_errors=True)
  return outcomes, failures


def _first_heads(one: Outcome) -> Iterator[tuple[Inputs, HeadProgress]]:
  """Yields each category with the last checkpoint of its first seed."""
  checkpoints = Checkpoints(one.workdir / 'checkpoints')
  try:
    for inputs in dataset.open_categories(one.config.data).categories:
      saved = checkpoints.load(layout.make_jobs(one.config, [inputs])[0])
      if not saved:
        raise ValueError(
          f'{one.workdir}/checkpoints/{inputs.name} lacks its first seed; '
          f'delete {one.workdir} and run the sweep again'
        )
      yield inputs, saved[0]
  finally:
    checkpoints.close()


def deviations(one: Outcome) -> dict[str, dict[str, list[float]]]:
  """Measures how far each dimension spreads over all training patches.

  Returns:
    By category `features` and `adapted`: standard deviations of the dimensions
    before and after the first seed's adaptor.
  """
  extractor = bank.make_extractor(one.config)
  weights = bank.load_backbone(one.config).state
  dim, found = one.config.patch.target_dim, {}
  for inputs, record in _first_heads(one):
    head = record.head or {}
    layers = [
      (head[key], head.get(key.replace('kernel', 'bias'), 0.0))
      for key in sorted(head)
      if key.startswith('params.adaptor.') and key.endswith('.kernel')
    ]
    decoder = Decoder(inputs.pixels, len(inputs.train), 8)
    try:
      with jax.default_matmul_precision('float32'):  # As features are made.
        parts = []
        for _, pixels in decoder:
          made = _moments(extractor, dim, weights, layers, pixels)
          parts.append((len(pixels), *jax.device_get(made)))
    finally:
      decoder.close()
    counts, before, after = zip(*parts, strict=True)
    found[inputs.name] = {
      'features': _spread(counts, before),
      'adapted': _spread(counts, after),
    }
  return found


@functools.partial(jax.jit, static_argnames=('extractor', 'dim'))
def _moments(extractor: bank.Extractor, dim: int, weights, layers, pixels):
  """Returns, before and after, each dimension's mean and variance."""
  levels = [level.astype(jnp.float32) for level in extractor(weights, pixels)]
  offsets = extractor.level_offsets
  x = jax.vmap(lambda *one: patches.merge(one, offsets, dim))(*levels)
  before = x
  for number, (kernel, bias) in enumerate(layers):
    x = nnx.leaky_relu(x, LEAK) if number else x
    x = jnp.matmul(x, kernel, precision='highest') + bias
  axes = (0, 1, 2)
  return [(one.mean(axes), one.var(axes)) for one in (before, x)]


def _spread(counts, parts) -> list[float]:
  """Returns deviations over several batches from their means and variances."""
  means, variances = np.array(parts, np.float64).swapaxes(0, 1)
  mean = np.average(means, axis=0, weights=counts)
  inner = np.average(variances, axis=0, weights=counts)
  outer = np.average((means - mean) ** 2, axis=0, weights=counts)
  return np.sqrt(inner + outer).tolist()


def losses(one: Outcome) -> dict[str, list[float]]:
  """Returns a run's loss by category and epoch, mean over seeds."""
  found = {}
  for name in one.results['categories']:
    curves = run_files.read_curves(one.workdir, name).values()
    found[name] = np.mean([curve[:, 1] for curve in curves], axis=0).tolist()
  return found


def frames_per_second(one: Outcome) -> float:
  """Times a detector of a run: one image at a time, host to host."""
  name = next(iter(one.results['categories']))
  path = one.workdir / 'detectors' / f'{name}.safetensors'
  if not path.exists():
    raise ValueError(f'{path} is missing; set --config.base.detector.save=true')
  detector = Detector.load(path, precision=one.config.precision)
  pixels = np.random.default_rng(0).integers(
    0, 256, (1, *detector.size, 3), np.uint8
  )
  detector.infer(pixels)
  seconds = []
  for _ in range(_ROUNDS):
    start = time.perf_counter()
    detector.infer(pixels)
    seconds.append(time.perf_counter() - start)
  return 1 / statistics.median(seconds)


def write_sheets(one: Outcome, folder: Path) -> Iterator[Path]:
  """Writes a sheet per category that has masks; yields the paths.

  A sheet shows test images, truth, anomaly maps of the first seed, and outlines
  what scores above the threshold with the best pixel F1 on these very images.
  """
  for inputs, record in _first_heads(one):
    test = TestSet.read(inputs, one.config.evaluation.smoothing)
    if test.masks is None or not test.masks.any():
      continue
    scores = record.scores[record.job.epochs]
    maps = test.maps(scores[test.has_truth])
    *_, threshold = metrics.pixel_curves(test.masks, maps)
    path = folder / f'{inputs.name}.png'
    title = (
      f'{inputs.name}: image, truth, anomaly map; outlined is what scores '
      f'above {threshold:.2f}, the best pixel F1, chosen on test.'
    )
    run_files.write_sheet(
      path, title, inputs, test, scores, 8, threshold=threshold
    )
    yield path
