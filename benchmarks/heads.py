"""Heads of categories that lie in memory, trained as a run trains them."""

import dataclasses
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx

from simplenet_jax.training import engine, layout, planning, setup
from simplenet_jax.training.bank import Extractor
from simplenet_jax.training.job import Job
from simplenet_jax.training.layout import Shift
from simplenet_jax.training.record import Record
from simplenet_jax.training.step import Recipe


@dataclasses.dataclass(frozen=True)
class Heads:
  """All heads of some categories, planned.

  Attributes:
    config: A run's settings.
    extractor: From pixels to features.
    weights: The backbone's state.
    recipe: How heads are trained.
    jobs: The heads.
    planned: Who trains them.
    neighbours: Processes that share this machine.
  """

  config: Any
  extractor: Extractor
  weights: nnx.State
  recipe: Recipe
  jobs: list[Job]
  planned: planning.Plan
  neighbours: int

  def train(
    self,
    rota: Sequence[Sequence[Shift]],
    on_steps: Callable[[Record], None] = lambda record: None,
  ) -> list[Record]:
    """Trains, without test images and checkpoints.

    Args:
      rota: The plan's, or a part of it.
      on_steps: Called with a record when it has grown.

    Raises:
      ValueError: If a head was given up.
    """
    orders = setup.make_orders(
      self.config,
      self.recipe,
      self.extractor.level_offsets,
      test_images=lambda name: 0,
      rank=lambda name: None,
      checkpoints=None,
      on_steps=on_steps,
      stop=threading.Event(),
    )
    source = setup.make_source(
      self.config,
      self.extractor,
      self.weights,
      pathlib.Path('unused'),
      self.neighbours,
    )
    with engine.started(rota, {'': orders}, source, lambda *_: None) as trained:
      records = list(trained)
    for record in records:
      if record.error:
        raise ValueError(record.error)
    return records


def prepare(
  config: Any, categories: Sequence[Any], neighbours: int = 1
) -> Heads:
  """Loads the backbone and plans all heads of some categories.

  Args:
    config: A run's settings.
    categories: Such as `mvtec_sizes.Decoded`.
    neighbours: Processes that share this machine, this one included.
  """
  extractor = setup.make_extractor(config)
  weights = setup.load_backbone(config, extractor.graph).state
  recipe = setup.make_recipe(config, extractor.level_offsets)
  jobs = layout.make_jobs(config, categories)
  planned = planning.make_plan(
    {'': setup.Variant(config, recipe)},
    extractor,
    weights,
    jobs,
    jobs,
    categories,
    layout.bank_budget(config, neighbours),
  )
  return Heads(config, extractor, weights, recipe, jobs, planned, neighbours)
