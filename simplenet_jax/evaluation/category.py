"""One category's heads: their metrics, pictures and curves."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simplenet_jax.console import Clock, console
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import (
  artifacts,
  evidence,
  kinds,
  metrics,
  results,
)
from simplenet_jax.evaluation.judge import Judge
from simplenet_jax.protocols import Config
from simplenet_jax.training.record import METRICS, Record, unlearned


def evaluate(
  config: Config,
  workdir: Path,
  clock: Clock,
  one: Inputs,
  records: Sequence[Record],
  images: int,
) -> results.CategoryResult:
  """Evaluates the heads of one category.

  Args:
    config: A run's settings.
    workdir: Where pictures go.
    clock: To count the time towards.
    one: The category.
    records: Of its heads, one per seed; metrics of those that were given up are
      undefined.
    images: Test images of the whole run.

  Returns:
    The metrics of every seed.
  """
  whole = [record for record in records if record.finished]
  cautions = [
    caution
    for record in whole
    if (caution := unlearned(record, config.train.loss, config.train.margin))
  ]
  with clock('pictures'):
    artifacts.write_history(
      workdir,
      one.name,
      [record.job.seed for record in whole],
      {
        name: np.stack([record.epochs()[name] for record in whole])
        for name in METRICS
      },
    )
  if not one.test:
    console.print(
      f'  {records[0].job.label}: no test images, nothing to evaluate'
    )
    return results.CategoryResult(last=[], cautions=cautions)
  undefined = dict.fromkeys(metrics.METRICS, float('nan'))
  last, best, course, by_kind = [], [], [], []
  with clock('evaluate'):
    judge = Judge.of(one, config.evaluation.smoothing)
    for record in records:
      if not record.finished:
        last.append(undefined)
        best.append({'epoch': None, **undefined})
        if config.evaluation.course:
          course.append([])
        continue
      last.append(judge.evaluate(_latest(record)))
      by_kind.append(kinds.evaluate(judge, _latest(record)))
      if judge.can_select:
        epoch = judge.best_epoch(record.scores)
        best.append({'epoch': epoch, **judge.evaluate(record.scores[epoch])})
      if config.evaluation.course:
        course.append(judge.course(record.scores))
    together = np.mean([_latest(record) for record in whole], axis=0)
    several = len(whole) == len(records) > 1
    ensemble = judge.evaluate(together) if several else {}
  with clock('pictures'):
    if config.evaluation.pictures:
      artifacts.write_sheet(
        workdir,
        one,
        judge,
        together,
        config.evaluation,
        seeds=[record.job.seed for record in whole],
      )
    if config.evaluation.maps:
      artifacts.write_maps(workdir, one, judge, together)
    if config.evaluation.report:
      evidence.write(workdir, one, judge, whole, images)
  figures = []
  for label, name in (('I-AUROC', 'image_auroc'), ('P-AUROC', 'pixel_auroc')):
    mean = statistics.fmean(seed[name] for seed in last)
    figures.append(f'{label} {"undefined" if mean != mean else f"{mean:.1%}"}')
  console.print(f'  {records[0].job.label}: {", ".join(figures)}')
  return results.CategoryResult(
    last=last,
    best=best if judge.can_select else [],
    ensemble=ensemble,
    course=course,
    kinds=kinds.mean(by_kind),
    cautions=cautions,
    pixels=one.known_pixels(),
  )


def _latest(record: Record) -> np.ndarray:
  return record.scores[record.job.epochs]
