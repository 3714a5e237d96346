"""A sweep from its settings to its table and figure: a loop over runs."""

import shutil
import statistics
import timeit
from collections.abc import Callable
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
from simplenet_jax.data import dataset, loading
from simplenet_jax.detection import file
from simplenet_jax.detector import Detector
from simplenet_jax.environment import SINGLE, Processes
from simplenet_jax.evaluation import run_files
from simplenet_jax.evaluation.tables import format_table
from simplenet_jax.models.head import ADAPTORS, LEAK
from simplenet_jax.sweeps import settings, tables
from simplenet_jax.training import bank, layout
from simplenet_jax.training.checkpoint import Checkpoints


def run(
  config: Config, workdir: Path, processes: Processes = SINGLE
) -> dict[str, Any]:
  """Runs a sweep and writes what it shows.

  `workdir` has the runs and `<name>.json`, `.csv`, `.md` and, of a view that is
  drawn, `.png` and `.svg`; of pictures `<name>/<category>.png`. Returns what
  the JSON holds; nothing where other processes train on. Settings of no use,
  and in the end a variant that failed, raise a ValueError.
  """
  outcomes, failures = _train_all(config, workdir, processes)
  if not all(one.results for one in outcomes):
    console.print('  the process that ends last writes the table of the sweep')
    return {}
  told = [f'{label}: {error}' for label, error in failures.items()]
  if not outcomes:
    raise ValueError(f'all variants failed; {told[0]}')
  collected = tables.collect(config, outcomes, failures)
  if measure := _MEASURED.get(config.view):
    for row, one in zip(collected['rows'], outcomes, strict=True):
      row |= measure(one)
  table = tables.markdown(collected)
  if config.view == 'categories':
    table = format_table(outcomes[0].results, 'markdown')
  paths = tables.write(collected, outcomes, table)
  if config.view == 'pictures':
    sheets, folder = outcomes[0].workdir / 'pictures', workdir / config.name
    shutil.copytree(sheets, folder, dirs_exist_ok=True)
    paths += sorted(folder.iterdir())
  else:
    paths += tables.draw(collected, workdir / config.name)
  console.print(Markdown(f'# {config.title}\n\n{table}'))
  console.print('\n'.join(['Look at them:', *(f'  {path}' for path in paths)]))
  if failures:
    raise ValueError(
      f'{len(failures)} of {len(failures) + len(outcomes)} variants failed and '
      f'are left out; {told[0]}'
    )
  return collected


def _train_all(
  config: Config, workdir: Path, processes: Processes
) -> tuple[list[tables.Outcome], dict[str, str]]:
  """Returns what came of every variant, or why it failed, by label."""
  # Runs share their features by a cache that is removed in the end.
  expanded, shared = settings.expand(config), workdir / 'features'
  count = counted(len(expanded), 'variant')
  console.print(f'{config.title}: {count}; {workdir}/')
  outcomes, failures = [], {}
  for label, one in expanded.items():
    own = workdir / settings.folder(config, label, one)
    one.bank.cache = one.bank.cache or str(shared)
    console.print(f'\n{label}')
    try:
      found = train.train_and_evaluate(one, own, processes)
      outcomes.append(tables.Outcome(label, one, own, found))
    except Stopped as stopped:
      raise Stopped(
        f'stopped and saved; the same command with --workdir={workdir} goes on',
        stopped.status,
      ) from None
    except (ValueError, OSError) as error:
      failures[label] = str(error).replace('--config.', '--config.base.')
      console.print(f'  error: {label}: {failures[label]}')
  if all(one.results for one in outcomes):  # No other process is under way.
    shutil.rmtree(shared, ignore_errors=True)
  return outcomes, failures


def _deviations(one: tables.Outcome) -> dict[str, Any]:
  """Returns each dimension's deviation before and after the first adaptor."""
  network = bank.Extraction.of(one.config)
  weights = bank.load_backbone(one.config).state
  weights = bank.on_device(network, weights, jax.local_devices()[0])
  found, checkpoints = {}, Checkpoints(one.workdir / 'checkpoints')
  for inputs in dataset.open_categories(one.config.data).categories:
    saved = checkpoints.load(layout.make_jobs(one.config, [inputs])[0])
    if not saved or not (head := saved[0].head):
      raise ValueError(f'{one.workdir} lacks heads; delete it, start again')
    moments = []
    images = loading.in_order(inputs.pixels, range(len(inputs.train)), 8)
    with bank.computing(jax.local_devices()[0]):
      for image in images:
        levels = bank.extract(network, weights, image[None])
        before = x = network.merge(levels)[0]
        for number in range(ADAPTORS[one.config.head.adaptor]):
          x = nnx.leaky_relu(x, LEAK) if number else x
          kernel = head[f'params.adaptor.{number}.kernel']
          bias = head.get(f'params.adaptor.{number}.bias', 0.0)
          x = jnp.matmul(x, kernel, precision='highest') + bias
        both = jnp.stack([before, x])
        moments.append(jax.device_get([both.mean((1, 2)), both.var((1, 2))]))
    means, variances = np.swapaxes(np.array(moments, np.float64), 0, 1)
    before, after = np.sqrt(variances.mean(0) + means.var(0)).tolist()
    found[inputs.name] = {'features': before, 'adapted': after}
  return {'deviations': found}


def _losses(one: tables.Outcome) -> dict[str, Any]:
  """Returns a run's loss by category and epoch, mean over seeds."""
  found = {}
  for name in one.results['categories']:
    losses = list(run_files.read_losses(one.workdir, name).values())
    found[name] = np.mean(losses, axis=0).tolist()
  return {'loss_by_epoch': found}


def _speed(one: tables.Outcome) -> dict[str, Any]:
  """Times a detector of a run: one image at a time, host to host."""
  name = next(iter(one.results['categories']))
  path = file.path_in(one.workdir, name)
  detector = Detector.load(path, precision=one.config.precision)
  pixels = np.zeros((1, *detector.size, 3), np.uint8)
  detector.infer(pixels)
  seconds = timeit.repeat(lambda: detector.infer(pixels), number=1, repeat=30)
  heads = counted(len(one.config.seeds), 'head')
  return {
    'frames_per_second': 1 / statistics.median(seconds),
    'speed': f'{heads}, {one.config.precision}',
  }


# What is measured of a run for a view, and added to its row.
_MEASURED: dict[str, Callable[[tables.Outcome], dict[str, Any]]] = {
  'deviations': _deviations,
  'losses': _losses,
  'speed': _speed,
}
