"""What one category's scores are worth, and what it leaves to look at."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.console import Clock, console
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import run_files, testset
from simplenet_jax.evaluation.results import CategoryResult, summarise
from simplenet_jax.pictures import Scale
from simplenet_jax.training import neighbours
from simplenet_jax.training.progress import METRICS, HeadProgress

# Figures, and what writes a category's files, given its detector's scale of
# colours and limit of image scores.
Found = tuple[CategoryResult, Callable[[Scale | None, float | None], None]]


def selects_on_test(config: Config, labels: np.ndarray) -> bool:
  """Returns whether the best epoch on test images is told.

  All are kept for it, or those of heads alone with the best highest patches.
  """
  asked = config.evaluation
  together = config.nearest.size or config.train.folds
  alone = not together and asked.score == 'patch'
  return (asked.course or alone) and 0 < labels.sum() < len(labels)


def write_curves(
  folder: Path, name: str, heads: Mapping[int, HeadProgress], clock: Clock
) -> None:
  """Writes the losses of a category's heads, if it has any."""
  if heads:
    history = {
      key: np.stack([head.epochs()[key] for head in heads.values()])
      for key in METRICS
    }
    with clock('pictures'):
      run_files.write_curves(folder, name, list(heads), history)


def evaluate(
  config: Config,
  folder: Path,
  inputs: Inputs,
  scores: Mapping[int, Mapping[int, np.ndarray]],
  arrays: neighbours.Arrays,
  only_last: bool,
  total: int,
  clock: Clock,
) -> Found:
  """Evaluates a category; returns also what writes its files to `folder`.

  `scores` are patch scores `[images, H, W]` by seed and epoch, of which maybe
  `only_last` ones count; `total` is the number of the run's test images.
  """
  asked = config.evaluation
  with clock('evaluate'):
    test = testset.TestSet.read(inputs, asked.smoothing, asked.score)
    by_seed = [scores.get(seed, {}) for seed in config.seeds]
    if config.train.folds:  # They count together, as in the detector.
      ends = [one[max(one)] for one in by_seed if one]
      by_seed = [{0: np.mean(ends, axis=0)} if ends else {}]
    course = asked.course and not only_last
    found = testset.evaluate(test, by_seed, course=course)
    if only_last:
      found.pop('selected_on_test', None)
    if asked.baseline:
      plain = dataclasses.replace(test, score='patch')
      found['baseline'] = summarise([plain.evaluate(arrays['distances'])])
  found['pixels'] = inputs.known_pixels()
  told, last = [], found['last']
  for title, key in (('I-AUROC', 'image_auroc'), ('P-AUROC', 'pixel_auroc')):
    mean = last[key]['mean']
    told.append(f'{title} {"undefined" if mean is None else f"{mean:.1%}"}')
  console.print(f'  {inputs.name}: {", ".join(told)}')
  at_end = {seed: one[max(one)] for seed, one in scores.items()}

  def write(scale: Scale | None, limit: float | None) -> None:
    shown = test, at_end, asked, total
    with clock('pictures'):
      run_files.write(folder, inputs, *shown, scale, limit)

  return found, write
