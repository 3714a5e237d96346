"""What one category's scores are worth, and what it leaves to look at."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.console import Clock, console
from simplenet_jax.data.images import place
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.detection import file
from simplenet_jax.detection.thresholds import Prediction, Thresholds
from simplenet_jax.evaluation import metrics, page_data, run_files, testset
from simplenet_jax.evaluation.results import (
  CategoryResult,
  summarise,
  write_json,
)
from simplenet_jax.evaluation.testset import Scored, TestSet
from simplenet_jax.files import naming, read_json
from simplenet_jax.pictures import Scale
from simplenet_jax.training import neighbours
from simplenet_jax.training.progress import METRICS, HeadProgress

# A category's test set, and its last patch scores `[images, H, W]` by seed.
Tested = tuple[TestSet, Mapping[int, np.ndarray]]
Found = tuple[CategoryResult, Tested | None]
_HIGHEST = 8  # Good images that a page shows, by score and by map.


class GoodImages:
  """What set a category's threshold: scores, and who scored highest."""

  def __init__(self):
    self._rows: list[page_data.Row] = []
    self._highest: dict[int, Prediction] = {}  # By their rows.

  def add(self, found: Prediction) -> None:
    """Takes an image; only those with the highest scores keep their maps."""
    peak, source = float(found.input_map.max()), found.source
    name = str(source if isinstance(source, int) else place(source))
    kept = {**self._highest, len(self._rows): found}
    self._rows.append({'name': name, 'score': found.score, 'peak': peak})
    best = set()
    for key in ('score', 'peak'):
      ranked = sorted(kept, key=lambda at, key=key: -self._rows[at][key])
      best |= {*ranked[:_HIGHEST]}
    self._highest = {at: one for at, one in kept.items() if at in best}

  def rows(self, low: float) -> list[page_data.Row]:
    """Returns the page's rows, the highest score first, these with pictures."""
    for at, found in self._highest.items():
      with contextlib.suppress(OSError, ValueError):  # A file that is gone.
        image = cast(Any, found.photograph)()
        shown = found.frame, found.input_map, low, found.roi
        self._rows[at] |= page_data.embed(image, *shown)
    return sorted(self._rows, key=lambda row: -row['score'])


def selects_on_test(config: Config, labels: np.ndarray) -> bool:
  """Returns whether the best epoch on test images is told.

  All are kept for it, or those of heads alone with the best highest patches.
  """
  asked = config.evaluation
  together = config.nearest.size or config.train.folds
  alone = not together and asked.score == 'patch'
  return (asked.course or alone) and 0 < labels.sum() < len(labels)


def has_all(
  config: Config, folder: Path, inputs: Inputs, known: object
) -> bool:
  """Returns whether all that a run leaves of a category is there."""
  if not isinstance(known, dict):
    return False
  asked, name = config.evaluation, inputs.name
  wanted = [page_data.path_in(folder, name)] if asked.report else []
  compared = bool(asked.baseline) == ('baseline' in known)
  compared &= 'at_threshold' in known  # Versions before it had another page.
  if inputs.test:
    wanted += [folder / 'pictures' / f'{name}.png'] if asked.pictures else []
    wanted += [folder / 'maps' / name] if asked.maps else []
  return (compared or not inputs.test) and all(one.exists() for one in wanted)


def rank(
  config: Config, inputs: Inputs
) -> Callable[[np.ndarray], float] | None:
  """Returns what ranks epochs' patch scores `[images, H, W]`: image AUROC.

  It is None where no epoch is selected.
  """
  selects = selects_on_test(config, inputs.labels)
  return functools.partial(testset.auroc, inputs) if selects else None


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
  inputs: Inputs,
  scores: Mapping[int, Mapping[int, np.ndarray]],
  arrays: neighbours.Arrays,
  only_last: bool,
  clock: Clock,
) -> Found:
  """Evaluates a category; returns also what its files are made of.

  `scores` are patch scores `[images, H, W]` by seed and epoch, of which maybe
  `only_last` ones count.
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
  return found, (test, {seed: one[max(one)] for seed, one in scores.items()})


def write(
  config: Config,
  folder: Path,
  inputs: Inputs,
  tested: Tested | None,
  good: GoodImages | None,
  total: int,
) -> CategoryResult:
  """Writes a category's pictures, maps and data of the page, as configured.

  Returns the `threshold` of its detector, if it has one, and what it is worth
  `at_threshold`, beside the limits that the test images would have chosen. The
  run has `total` test images.
  """
  path = file.path_in(folder, inputs.name)
  card = file.read_card(path) if path.is_file() else None
  limits = card.thresholds if card else Thresholds()
  scale, asked = card and card.scale, config.evaluation
  path, found, data = page_data.path_in(folder, inputs.name), {}, {}
  if tested:
    test, by_seed = tested
    mean = np.mean(list(by_seed.values()), axis=0)
    scored, pixel, pro = Scored.of(inputs, test, mean), None, None
    best = metrics.best_f1(test.labels, scored.scores)[1]
    if ranked := scored.ranked():
      rates, most = np.linspace(0, 0.3, 200), ranked.f1().argmax()
      pro = np.stack([rates, ranked.overlap_at(rates)], axis=1)
      # Pixels with that very value count.
      pixel = float(np.nextafter(ranked.values[most], -np.inf))
    found['at_threshold'] = {
      **scored.verdicts(limits.image, limits.pixel),
      'selected_on_test': scored.verdicts(best, pixel),
    }
    own, chosen = "the detector's", 'best F1, chosen on test'
    both = limits.image, limits.pixel
    origins = [chosen if one is None else own for one in both]
    if scale is None or scale.limit is None:
      maps = scored.maps[: testset.BLOCK, test.counted]
      scale = scale or Scale(float(np.median(maps)), float(maps.max()))
      scale = Scale.of(scale.low, scale.high, pixel)
    seeds = ', '.join(map(str, by_seed))
    whose = f'mean of seeds {seeds}' if len(by_seed) > 1 else f'seed {seeds}'
    if count := asked.pictures:
      sheet = folder / 'pictures' / f'{inputs.name}.png'
      limit = best if limits.image is None else limits.image
      shown = whose, scored, count, scale, limit, origins
      run_files.write_sheet(sheet, *shown)
    if asked.maps:
      run_files.write_maps(folder / 'maps' / inputs.name / 'test', scored)
    if asked.report:
      heads, low = by_seed.values(), scale.low
      data = {
        'seeds': list(by_seed),
        'whose': whose,
        'pro': pro,
        'selected_on_test': [best, pixel],
        'images': page_data.tested(scored, heads, total, low),
      }
  if card:
    rows = good.rows(card.scale.low) if good else []
    with naming(path):
      if not good and path.is_file():  # Its detector was made before.
        rows = read_json(path).get('good', [])
      kept = [(row['name'], row['score']) for row in rows]
    data['good'] = rows
    found['threshold'] = limits.summary() | {'scores': kept}
  if asked.report:
    write_json(path, {**data, 'scale': scale})
  return found
