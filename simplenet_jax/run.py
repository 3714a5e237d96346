"""One run's results as they come: evaluated, deployed, reported."""

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from simplenet_jax import environment, ledger
from simplenet_jax.config import Config, describe_protocol
from simplenet_jax.console import Clock, console, counted, first_line
from simplenet_jax.data.files import Row
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.detection.assembly import Shipper
from simplenet_jax.evaluation import (
  earlier,
  metrics,
  results,
  run_files,
  tables,
  testset,
)
from simplenet_jax.files import read_json
from simplenet_jax.models import weights
from simplenet_jax.report import page
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.progress import METRICS, HeadProgress, unlearned
from simplenet_jax.training.worker import FAILURES

_PAUSE = 20.0  # Between two pages, in units of what the first one took.


@dataclasses.dataclass
class Run:
  """One run.

  Attributes:
    config: The settings.
    workdir: Where its results go.
    categories: The images, by name.
    weights: The backbone's weights and where they come from.
    clock: Wall time by phase.
    checkpoints: Of its heads.
    shipper: Makes detectors of them.
    records: The heads that ended so far, by category and seed.
    finished: The categories evaluated so far.
    failed: Why others failed.
    known: What an earlier process found of categories of which nothing is left
      to train; they are not evaluated again.
    page_due: When the page may be written again, of `time.monotonic`.
    divided: Whether other processes have a part in it; its tables and its page
      are then written in the end, by the first.
    files: What the files of its data set are used as.
  """

  config: Config
  workdir: Path
  categories: dict[str, Inputs]
  weights: weights.Weights
  clock: Clock
  checkpoints: Checkpoints
  shipper: Shipper
  records: dict[str, dict[int, HeadProgress]] = dataclasses.field(
    default_factory=dict
  )
  finished: dict[str, results.CategoryResult] = dataclasses.field(
    default_factory=dict
  )
  failed: dict[str, str] = dataclasses.field(default_factory=dict)
  known: Mapping[str, results.CategoryResult] = dataclasses.field(
    default_factory=dict
  )
  page_due: float = 0.0
  divided: bool = False
  files: Sequence[Row] = ()


def rank(run: Run, name: str):
  """Returns what tells a category's epochs from each other: image AUROC."""
  if run.config.evaluation.course:
    return lambda scores: 0.0  # None is dropped in favour of another.
  labels = run.categories[name].labels
  if not 0 < labels.sum() < len(labels):
    return None
  return lambda scores: metrics.auroc(labels, scores.max(axis=(1, 2)))


def take(run: Run, record: HeadProgress) -> bool:
  """Takes a head that ended; evaluates its category if it was the last one.

  Returns:
    Whether it was.
  """
  name, seeds = record.job.category, run.config.seeds
  heads = run.records.setdefault(name, {})
  told = {one.error for one in heads.values()}
  heads[record.job.seed] = record
  if record.error and record.error not in told:
    run.failed.setdefault(name, record.error)
    console.print(f'  error: {record.job.label}: {record.error}')
  if record.finished and (caution := _caution(run, record)):
    logging.warning('%s', caution)
  if len(heads) < len(seeds):
    return False
  ordered = [heads[seed] for seed in seeds]
  if any(record.finished for record in ordered):
    try:
      trained = any(record.resumed < record.job.steps for record in ordered)
      run.finished[name] = (
        _evaluate(run, run.categories[name], ordered)
        if trained or name not in run.known or _lacks(run, name)
        else run.known[name]
      )
      if not run.divided:
        report(run)
      ship(run, run.categories[name], ordered)
    except (*FAILURES, RuntimeError) as error:
      run.failed[name] = _reason(error)
      console.print(f'  error: {record.job.label}: {run.failed[name]}')
    _show(run)
  run.records[name] = {}
  return True


def _evaluate(
  run: Run, inputs: Inputs, records: Sequence[HeadProgress]
) -> results.CategoryResult:
  """Evaluates a category's heads, one per seed, and writes its files."""
  asked = run.config.evaluation
  whole = [record for record in records if record.finished]
  cautions = [one for one in (_caution(run, record) for record in whole) if one]
  with run.clock('pictures'):
    run_files.write_curves(
      run.workdir,
      inputs.name,
      [record.job.seed for record in whole],
      {
        name: np.stack([record.epochs()[name] for record in whole])
        for name in METRICS
      },
    )
  label = records[0].job.label
  if not inputs.test:
    console.print(f'  {label}: no test images, nothing to evaluate')
    return results.CategoryResult(last=[], cautions=cautions)
  with run.clock('evaluate'):
    test = testset.TestSet.read(inputs, asked.smoothing)
    found = testset.evaluate(
      test,
      [record.scores if record.finished else {} for record in records],
      course=asked.course,
    )
  with run.clock('pictures'):
    run_files.write(
      run.workdir,
      inputs,
      test,
      {record.job.seed: record.scores[record.job.epochs] for record in whole},
      asked,
      images=sum(len(one.test) for one in run.categories.values()),
    )
  figures = []
  for title, name in (('I-AUROC', 'image_auroc'), ('P-AUROC', 'pixel_auroc')):
    mean = statistics.fmean(seed[name] for seed in found.last)
    figures.append(f'{title} {"undefined" if mean != mean else f"{mean:.1%}"}')
  console.print(f'  {label}: {", ".join(figures)}')
  return dataclasses.replace(
    found, cautions=cautions, pixels=inputs.known_pixels()
  )


def _caution(run: Run, record: HeadProgress) -> str:
  return unlearned(record, run.config.train.loss, run.config.train.margin)


def _reason(error: Exception) -> str:
  """Returns why a category failed; raises what is another kind of error."""
  short = isinstance(error, MemoryError) or environment.is_out_of_memory(error)
  if isinstance(error, RuntimeError) and not short:
    raise error
  if not short:
    return first_line(error)
  return (
    f'out of memory beside what is in training ({first_line(error)}); start '
    'the run again with a lower --config.bank.device_gb, --config.bank.host_gb '
    'or --config.engine.lanes'
  )


def _lacks(run: Run, name: str) -> bool:
  """Returns whether a known category has not left all that is asked for."""
  if not run.categories[name].test:
    return False
  asked = run.config.evaluation
  sheet = run.workdir / 'pictures' / f'{name}.png'
  return (
    (bool(asked.pictures) and not sheet.exists())
    or (asked.maps and not (run.workdir / 'maps' / name).is_dir())
    or (asked.report and not run_files.report_path(run.workdir, name).exists())
  )


def _show(run: Run) -> None:
  """Writes the page, unless the last one is quite new: it shows everything."""
  begun = time.monotonic()
  wanted = run.config.evaluation.report and not run.divided
  if not wanted or not run.finished or begun < run.page_due:
    return
  try:
    page.write(run.workdir)
  except FAILURES as error:  # In the end it is tried once more.
    console.print(f'  error: the report: {error}')
  now = time.monotonic()
  run.page_due = now + _PAUSE * (now - begun)


def findings(run: Run) -> dict[str, Any]:
  """Returns what came of the categories so far, in JSON's types."""
  return {
    'finished': {
      name: dataclasses.asdict(one) for name, one in run.finished.items()
    },
    'failed': run.failed,
  }


def merge(run: Run, found: Mapping[str, Any]) -> None:
  """Adds what came of categories elsewhere, as `findings` returned it."""
  run.failed |= found['failed']
  run.finished |= {
    name: results.CategoryResult(**one)
    for name, one in found['finished'].items()
  }


def ship(run: Run, one: Inputs, records: Sequence[HeadProgress]) -> None:
  """Makes a category's detector of all its heads that were not given up."""
  whole = [record for record in records if record.finished]
  seeds = [record.job.seed for record in whole]
  if not run.config.detector.save or run.shipper.has(one.name, seeds):
    return
  if len(whole) < len(records):
    console.print(
      f'  {one.name}: its detector has {len(whole)} of '
      f'{counted(len(records), "head")}'
    )
  cautions = [one for one in (_caution(run, record) for record in whole) if one]
  with run.clock('detectors'):
    heads = {}
    for record in whole:
      head = record.head
      if head is None and (saved := run.checkpoints.load(record.job)):
        head = saved[0].head
      if head is not None:
        heads[record.job.seed] = head
    run.shipper.ship(one, heads, ledger.fingerprint(one), cautions)


def report(run: Run) -> dict[str, Any]:
  """Writes the results of the categories finished so far.

  Where all of them were known already, what is there stays: it names the time
  and the device that they took.
  """
  if run.finished and run.finished == run.known:
    return earlier.read_as_now(read_json(run.workdir / 'results.json'))
  about = {
    'protocol': describe_protocol(run.config, run.weights.other),
    'config': run.config.to_dict(),
    'weights': {
      'name': run.weights.name,
      'path': str(run.weights.path),
      'sha256': run.weights.sha256,
      'recipe': run.weights.recipe,
      'warnings': list(run.weights.warnings),
    },
    'wall_seconds': run.clock.seconds,
    'versions': environment.versions(),
    'device': environment.device(),
    'files': [dataclasses.asdict(row) for row in run.files],
  }
  # In the order of the data set, whatever ended first.
  finished = {
    name: run.finished[name] for name in run.categories if name in run.finished
  }
  table = results.build(about, finished)
  results.write(run.workdir, table)
  return table


def conclude(run: Run, tell: bool = True) -> dict[str, Any]:
  """Writes the results once more, when all categories are through.

  Args:
    run: Which.
    tell: Whether to print the table and where everything is.

  Returns:
    What `results.json` holds.

  Raises:
    ValueError: If a category failed.
  """
  table = {}
  if run.finished:
    table = report(run)
    if tell:
      measured = any(one.last for one in run.finished.values())
      shown = (
        tables.format_table(table)
        if measured
        else 'No test images: nothing was measured.'
      )
      console.print(f'\n{shown}\n\nResults: {run.workdir}/')
    if run.config.evaluation.report:
      path = page.write(run.workdir)
      if tell:
        console.print(f'Report: {path}')
    if tell:
      run.shipper.conclude()
  if run.failed:
    names = [name for name in run.categories if name in run.failed]
    raise ValueError(
      f'{len(names)} of {len(run.categories)} categories failed '
      f'({", ".join(names)}); the first, {names[0]}: {run.failed[names[0]]}'
    )
  return table
