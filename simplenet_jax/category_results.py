"""What one category's scores are worth, and what it leaves to look at."""

import contextlib
import dataclasses
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from simplenet_jax import environment
from simplenet_jax.config import Config, trains_heads
from simplenet_jax.console import console, first_line
from simplenet_jax.data import loading
from simplenet_jax.data.images import place
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.detection import assembly, file
from simplenet_jax.detection.thresholds import Prediction, Thresholds
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics, run_files, testset
from simplenet_jax.evaluation.results import (
  CategoryResult,
  summarise,
  undefined,
  write_json,
)
from simplenet_jax.files import naming, read_json
from simplenet_jax.models.weights import Weights
from simplenet_jax.pictures import Scale
from simplenet_jax.training import bank, layout, neighbours, step
from simplenet_jax.training.progress import HeadProgress, Rank, unflat

# Patch scores `[images, H, W]` by seed and epoch.
Scores = Mapping[int, Mapping[int, np.ndarray]]
# A category's test set, and its last patch scores `[images, H, W]` by seed.
Tested = tuple[testset.TestSet, Mapping[int, np.ndarray]]
_HIGHEST = 8  # Good images that a page shows, by score and by map.

_patch_scores = jax.jit(step.patch_scores, static_argnames='recipe')


def keep_highest(shown: list[Prediction], found: Prediction) -> None:
  """Takes a good image; only those that score highest keep their maps."""
  every = [*shown, found]
  by_score = heapq.nlargest(_HIGHEST, every, lambda one: one.score)
  by_map = heapq.nlargest(_HIGHEST, every, lambda one: one.input_map.max())
  shown[:] = {id(one): one for one in [*by_score, *by_map]}.values()


def has_all(config: Config, folder: Path, inputs: Inputs, known: Any) -> bool:
  """Returns whether all that a run leaves of a category is there."""
  if not isinstance(known, dict):
    return False
  asked, name = config.evaluation, inputs.name
  wanted = [run_files.path_in(folder, name)] if asked.report else []
  compared = bool(asked.baseline) == ('baseline' in known)
  if inputs.test:
    wanted += [folder / 'pictures' / f'{name}.png'] if asked.pictures else []
    wanted += [folder / 'maps' / name] if asked.maps else []
  return (compared or not inputs.test) and all(one.exists() for one in wanted)


@dataclasses.dataclass(frozen=True)
class Trained:
  """What a run's training came to for one category."""

  config: Config
  weights: Weights  # The backbone's.
  inputs: Inputs
  heads: Mapping[int, HeadProgress]  # By seed.
  arrays: neighbours.Arrays  # Its nearest neighbours.

  @property
  def leaves(self) -> dict[int, dict[str, np.ndarray]]:
    """Heads as they are saved, by seed."""
    return {seed: head.head or {} for seed, head in self.heads.items()}

  def scores(self, is_outdated: bool) -> Scores:
    """Returns patch scores, of now's test images where they are outdated."""
    scores: Scores = {seed: head.scores for seed, head in self.heads.items()}
    if is_outdated and self.inputs.test:  # Earlier epochs saw others, too.
      told = 'scores its test images, which changed'
      console.print(f'  {self.inputs.name}: {told}')
      scores = self._scored_again()
    if 'bank' in self.arrays and self.inputs.test:
      known = self.arrays, self.leaves, scores
      scores = neighbours.patch_scores(self.config, *known)
    return scores

  def _scored_again(self) -> dict[int, dict[int, np.ndarray]]:
    """Returns the patch scores of heads after their last epoch."""
    network = bank.Extraction.of(self.config)
    recipe = step.make_recipe(self.config, network.level_offsets, network.dim)
    fresh = jax.eval_shape(lambda: step.init_head(recipe, step.head_key(0, '')))
    states, scores = {}, {seed: [] for seed in self.heads}
    for seed, leaves in self.leaves.items():
      head = unflat(leaves, fresh.weights_to_score)
      states[seed] = step.HeadState(head['params'], head['stats'], ())
    one, size = self.inputs, self.config.backbone.batch_size
    tested = range(len(one.train), one.images)
    pixels = loading.in_order(one.pixels, tested, 2 * size)
    with bank.computing(jax.local_devices()[0]) as device:
      backbone = bank.on_device(network, self.weights.state, device)
      states = jax.device_put(states, device)
      while some := list(itertools.islice(pixels, size)):
        batch = bank.padded(np.stack(some), size)
        levels = bank.extract(network, backbone, batch)
        for seed, state in states.items():
          found = _patch_scores(recipe, state, levels)
          scores[seed].append(np.asarray(found)[: len(some)])
    return {
      seed: {self.heads[seed].job.epochs: np.concatenate(parts)}
      for seed, parts in scores.items()
    }

  def evaluate(
    self, scores: Scores, rank: Rank | None
  ) -> tuple[CategoryResult, Tested | None]:
    """Evaluates `scores`, whose best epoch `rank` tells."""
    inputs, config = self.inputs, self.config
    if not inputs.test:
      seeds = 1 if config.train.folds else len(config.seeds)
      return {'last': undefined(seeds)}, None
    asked = config.evaluation
    test = testset.TestSet.read(inputs, asked.smoothing, asked.score)
    by_seed = [scores.get(seed, {}) for seed in config.seeds]
    if config.train.folds:  # They count together, as in the detector.
      ends = [one[max(one)] for one in by_seed if one]
      by_seed = [{0: np.mean(ends, axis=0)} if ends else {}]
    found = testset.evaluate(test, by_seed, rank)
    if asked.baseline:
      found['baseline'] = summarise([test.evaluate(self.arrays['distances'])])
    found['pixels'] = inputs.known_pixels()
    return found, (test, {seed: one[max(one)] for seed, one in scores.items()})

  def detector(
    self, images: str, cautions: Sequence[str], keep: Callable[..., None]
  ) -> Detector:
    """Makes a detector of the `images`; `keep` gets each good prediction."""
    name, count, bank = self.inputs.name, len(self.config.seeds), None
    if trains_heads(self.config) and len(self.heads) < count:
      told = f'its detector has {len(self.heads)} of {count} heads'
      console.print(f'  {name}: {told}')
    if self.config.nearest.size:
      found = self.arrays
      bank = found['bank'], tuple(found['units']), found['places']
    made_of = self.weights, self.inputs, self.leaves, images, cautions, bank
    folds = layout.folds(self.config, self.inputs)
    return assembly.of_run(self.config, *made_of, folds, keep)


def describe(inputs: Inputs, found: CategoryResult) -> str:
  """Returns a line with what was found of a category."""
  if not inputs.test:
    return f'  {inputs.name}: no test images, nothing to evaluate'
  told, last = [], found['last']
  for title, key in (('I-AUROC', 'image_auroc'), ('P-AUROC', 'pixel_auroc')):
    mean = last[key]['mean']
    told.append(f'{title} {"undefined" if mean is None else f"{mean:.1%}"}')
  return f'  {inputs.name}: {", ".join(told)}'


def write(
  config: Config,
  folder: Path,
  inputs: Inputs,
  tested: Tested | None,
  good: Sequence[Prediction],
  total: int,
) -> CategoryResult:
  """Writes a category's pictures, maps and data of the page, as configured.

  Returns the `threshold` of its detector and what it is worth `at_threshold`,
  beside the limits that the test images would have chosen. The `good` images
  that score highest are shown; the run has `total` test images.
  """
  path = file.path_in(folder, inputs.name)
  card = file.read_card(path) if path.is_file() else None
  limits = card.thresholds if card else Thresholds()
  scale, asked = card and card.scale, config.evaluation
  path, found, data = run_files.path_in(folder, inputs.name), {}, {}
  if tested:
    test, by_seed = tested
    mean = np.mean(list(by_seed.values()), axis=0)
    scored, pixel, pro = testset.Scored.of(inputs, test, mean), None, None
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
    if scale is None or scale.limit is None:
      maps = scored.maps[: testset.BLOCK, test.counted]
      scale = scale or Scale(float(np.median(maps)), float(maps.max()))
      scale = Scale.of(scale.low, scale.high, pixel)
    seeds = ', '.join(map(str, by_seed))
    whose = f'mean of seeds {seeds}' if len(by_seed) > 1 else f'seed {seeds}'
    if count := asked.pictures:
      own, chosen = "the detector's", 'best F1, chosen on test'
      both = limits.image, limits.pixel
      origins = [chosen if one is None else own for one in both]
      limit = best if limits.image is None else limits.image
      sheet = folder / 'pictures' / f'{inputs.name}.png'
      run_files.write_sheet(sheet, whose, scored, count, scale, limit, origins)
    if asked.maps:
      run_files.write_maps(folder / 'maps' / inputs.name / 'test', scored)
    if asked.report:
      data = {
        'seeds': list(by_seed),
        'whose': whose,
        'pro': pro,
        'selected_on_test': [best, pixel],
        'images': run_files.tested(scored, by_seed.values(), total, scale.low),
      }
  if card:
    known = sorted(limits.good, key=lambda one: -one.score)
    found['threshold'] = limits.summary() | {
      'scores': [(one.name, one.score) for one in known]
    }
    with naming(path):
      pictures = _pictures(path, good, card.scale.low)
      data['good'] = [
        pictures.get(one.name, {}) | {'name': one.name, 'score': one.score}
        for one in known
      ]
  if asked.report:
    write_json(path, {**data, 'scale': scale})
  return found


def _pictures(
  path: Path, good: Sequence[Prediction], low: float
) -> dict[str, run_files.Row]:
  """Returns good images' pictures by name; of a detector made before, its."""
  if not good and path.is_file():
    return {row['name']: row for row in read_json(path).get('good', [])}
  found = {}
  for one in good:
    shown = one.frame, one.input_map, low, one.roi
    with contextlib.suppress(OSError, ValueError):  # A file that is gone.
      image = cast(Any, one.photograph)()
      found[str(place(cast(Any, one.source)))] = run_files.embed(image, *shown)
  return found


def reason(error: Exception) -> str:
  """Returns why a category failed; raises what is another kind of error."""
  told = first_line(error)
  if isinstance(error, MemoryError) or environment.is_out_of_memory(error):
    return (
      f'out of memory beside what is in training ({told}); start the run '
      'again with a lower --config.bank.device_gb, --config.bank.host_gb or '
      '--config.engine.lanes'
    )
  if isinstance(error, RuntimeError):
    raise error
  return told
