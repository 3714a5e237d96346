"""A run from top to bottom: read, extract, train, evaluate, report."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simplenet_jax import environment, protocols
from simplenet_jax.data import folder, loading, sources
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import artifacts, results
from simplenet_jax.evaluation.judge import Judge
from simplenet_jax.models import weights
from simplenet_jax.progress import Clock, console, counted, duration, phase
from simplenet_jax.protocols import Config
from simplenet_jax.training import bank, estimate, loop, setup, step

# What ends one category and lets the others go on. Running out of memory is
# among them: another category can be smaller.
_FAILURES = (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)


@dataclasses.dataclass(frozen=True)
class Engine:
  """What all categories of a run share.

  Attributes:
    config: The settings.
    weights: The backbone's weights and where they come from.
    extractor: From pixels to pooled features.
    recipe: How heads are trained.
    clock: Wall time by phase.
  """

  config: Config
  weights: weights.Weights
  extractor: bank.Extractor
  recipe: step.Recipe
  clock: Clock

  @classmethod
  def build(cls, config: Config) -> 'Engine':
    """Loads the backbone and lays out the training."""
    clock = Clock()
    extractor = setup.make_extractor(config)
    recipe = setup.make_recipe(config, extractor.starts)
    with clock('load weights'):
      loaded = setup.load_backbone(config, extractor.graph)
      state = jax.device_put(loaded.state)
    loaded = dataclasses.replace(loaded, state=state)
    return cls(config, loaded, extractor, recipe, clock)


def train_and_evaluate(config: Config, workdir: Path) -> dict[str, Any]:
  """Trains and evaluates every category of a data set.

  Results are written after every category; a category that fails is told and
  left out, the others go on.

  Args:
    config: The settings, see `protocols`.
    workdir: Where results go; must not hold those of another run.

  Returns:
    What `results.json` holds.

  Raises:
    ValueError: For settings, images or weights that cannot be used, in the end
      also if any category failed.
    OSError: If a file or folder is missing or cannot be written.
  """
  protocols.check(config)
  if (workdir / 'results.json').exists():
    raise ValueError(
      f'{workdir} holds the results of another run; give another --workdir'
    )
  categories = sources.open_categories(config.data)
  with jax.default_matmul_precision(config.precision):
    engine = Engine.build(config)
    announce(engine, categories, workdir)
    finished, failed, table = {}, {}, {}
    for one in categories:
      try:
        finished[one.name] = run_category(engine, one, workdir)
      except _FAILURES as error:
        # The text alone: the error would keep the category's features alive.
        text = str(error).strip() or type(error).__name__
        failed[one.name] = text.splitlines()[0]
        console.print(f'  error: {failed[one.name]}')
        continue
      table = report(engine, finished, workdir)
  if finished:
    console.print(f'\n{results.terminal_table(table)}\n\nResults: {workdir}/')
  if failed:
    name, text = next(iter(failed.items()))
    raise ValueError(
      f'{len(failed)} of {len(categories)} categories failed '
      f'({", ".join(failed)}); the first, {name}: {text}'
    )
  return table


def announce(engine: Engine, categories: list[Inputs], workdir: Path) -> None:
  """Says what the run will do, on what, for how long and where it goes."""
  config, recipe = engine.config, engine.recipe
  keys = setup.head_keys(config.seeds[:1], '')
  states = setup.init_heads(
    config, engine.extractor.starts, recipe.optimizer, keys
  )
  seconds = estimate.run_seconds(
    categories,
    engine.extractor,
    engine.weights.state,
    recipe,
    jax.tree.map(lambda leaf: leaf[0], states),
    epochs=config.train.epochs,
    seeds=len(config.seeds),
  )
  memory = max(
    estimate.bank_bytes(one, engine.extractor, engine.weights.state)
    for one in categories
  )
  disk = 2.5e6 * len(categories)  # A picture sheet, mostly.
  if config.evaluation.maps:
    disk += sum(4 * np.prod(f.original) for one in categories for f in one.test)
  device, count = jax.devices()[0], jax.device_count()
  console.print(
    f'SimpleNet, protocol {protocols.followed(config)}: '
    f'{counted(len(categories), "category", "categories")} x '
    f'{counted(len(config.seeds), "seed")}, '
    f'{counted(config.train.epochs, "epoch")}\n'
    f'  backbone  {config.backbone.name}, levels '
    f'{"+".join(map(str, config.backbone.levels))}, {engine.weights.path}\n'
    f'  device    {device.device_kind} ({device.platform}), '
    f'{f"the first of {count}, " * (count > 1)}{config.precision}\n'
    f'  takes     about {duration(seconds)} and compilation, by a rough guess; '
    f'{disk / 1e6:.0f} MB of disk\n'
    f'  holds     {memory / 1e6:.0f} MB of features of the largest category\n'
    f'  results   {workdir}/'
  )
  for one in categories:
    height, width = one.size
    console.print(
      f'  {one.name}: {folder.describe(one.category)}, input {height} x {width}'
    )


def run_category(
  engine: Engine, one: Inputs, workdir: Path
) -> results.CategoryResult:
  """Trains and evaluates the heads of one category.

  Args:
    engine: What all categories share.
    one: The category.
    workdir: Where its curves and pictures go.

  Returns:
    The metrics of every seed.
  """
  config, clock = engine.config, engine.clock
  # Before the work, so that a mask that cannot be read does not cost it.
  with clock('evaluate'):
    judge = Judge.of(one, config.evaluation.smoothing) if one.test else None
  with clock('decode and backbone'):
    train_bank = extract(engine, one, 'train')
    test_bank = extract(engine, one, 'test') if one.test else None
  with clock('train and score'):
    history, scores = train_heads(engine, one, train_bank, test_bank)
  with clock('pictures'):
    artifacts.write_history(workdir, one.name, config.seeds, history)
  if not judge:
    console.print(f'  {one.name}: no test images, nothing to evaluate')
    return results.CategoryResult(last=[])
  with clock('evaluate'):
    last, best = [], []
    for head in range(len(config.seeds)):
      of_head = {epoch: heads[head] for epoch, heads in scores.items()}
      last.append(judge.evaluate(of_head[config.train.epochs]))
      if judge.can_select:
        epoch = judge.best_epoch(of_head)
        best.append({'epoch': epoch, **judge.evaluate(of_head[epoch])})
  with clock('pictures'):
    shown = scores[config.train.epochs][0]
    if config.evaluation.pictures:
      artifacts.write_sheet(
        workdir, one, judge, shown, config.evaluation, seed=config.seeds[0]
      )
    if config.evaluation.maps:
      artifacts.write_maps(workdir, one, judge, shown)
  return results.CategoryResult(last=last, best=best)


def extract(engine: Engine, one: Inputs, split: str) -> bank.Bank:
  """Passes a split's images through the backbone, once."""
  config = engine.config
  count = len(getattr(one, split))
  batches = loading.decode_batches(
    getattr(one, f'{split}_pixels'),
    count,
    config.backbone.batch_size,
    workers=config.data.workers or None,
  )
  with phase(f'{one.name}, {split} features', count, 'images') as update:
    filled = bank.fill(
      engine.extractor,
      engine.weights.state,
      batches,
      count=count,
      batch_size=config.backbone.batch_size,
      on_batch=update,
    )
    jax.block_until_ready(filled)
  return filled


def train_heads(
  engine: Engine,
  one: Inputs,
  train_bank: bank.Bank,
  test_bank: bank.Bank | None,
) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray]]:
  """Trains one head per seed and scores the test images on the way.

  Args:
    engine: What all categories share.
    one: The category.
    train_bank: Features of the training images.
    test_bank: Features of the test images, if there are any.

  Returns:
    The epochs' mean losses and shares, `[seeds, epochs]` by name, and the test
    images' patch scores `[seeds, images, H, W]` by epoch, the last included.
  """
  config, recipe = engine.config, engine.recipe
  keys = setup.head_keys(config.seeds, one.name)
  states = setup.init_heads(
    config, engine.extractor.starts, recipe.optimizer, keys
  )
  epochs, every = config.train.epochs, config.evaluation.every
  chunks, scores = [], {}
  with phase(f'{one.name}, training', epochs, 'epochs') as update:
    for first in range(0, epochs, every):
      count = min(every, epochs - first)
      states, metrics = loop.train_heads(
        recipe, states, train_bank, keys, jnp.int32(first), epochs=count
      )
      chunk = {
        name: np.asarray(values) for name, values in vars(metrics).items()
      }
      loop.check_finite(chunk['loss'], config.seeds, first)
      chunks.append({name: v.mean(-1) for name, v in chunk.items()})
      if test_bank:
        scored = loop.score_heads(recipe, states, test_bank)
        scores[first + count] = np.asarray(scored)
      loss, normal, counterfeit = (
        v.mean(-1)[:, -1].mean() for v in chunk.values()
      )
      update(
        first + count,
        f'loss {loss:.3f}, beyond margin {normal:.0%} / {counterfeit:.0%}',
      )
  names = chunks[0]
  return {
    name: np.concatenate([chunk[name] for chunk in chunks], axis=1)
    for name in names
  }, scores


def report(
  engine: Engine, finished: dict[str, results.CategoryResult], workdir: Path
) -> dict[str, Any]:
  """Writes the results of the categories finished so far."""
  run = {
    'protocol': protocols.followed(engine.config),
    'config': engine.config.to_dict(),
    'weights': {
      'name': engine.weights.name,
      'path': str(engine.weights.path),
      'sha256': engine.weights.sha256,
    },
    'wall_seconds': engine.clock.seconds,
    'versions': environment.versions(),
    'device': environment.device(),
  }
  table = results.build(run, finished)
  results.write_json(workdir / 'results.json', table)
  results.write_csv(workdir / 'results.csv', table)
  results.write_markdown(workdir / 'results.md', table)
  return table
