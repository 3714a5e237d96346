"""A training from end to end, as its workers left it."""

import threading
from pathlib import Path

import numpy as np

from simplenet_jax.data import dataset
from simplenet_jax.training import engine, layout, planning, setup
from simplenet_jax.training.checkpoint import Checkpoints


def rank(scores):
  return float(scores.mean())


class Ran:
  """The heads of one training, as its workers left them."""

  def __init__(
    self,
    config,
    workdir=None,
    change=None,
    stop_after=None,
    on_batch=lambda *_: None,
  ):
    """Trains; `change` edits the orders, `stop_after` counts calls."""
    self.categories = dataset.open_categories(config.data).categories
    extractor = setup.make_extractor(config)
    weights = setup.load_backbone(config).state
    recipe = setup.make_recipe(config, extractor.level_offsets)
    self.jobs = layout.make_jobs(config, self.categories)
    checkpoints = Checkpoints(workdir) if workdir else None
    ended, left = [], self.jobs
    if checkpoints:
      saved = [checkpoints.load(job, rank) for job in self.jobs]
      ended = [one[0] for one in saved if one and one[0].finished]
      left = [job for job in self.jobs if job not in {r.job for r in ended}]
    self.plan = planning.make_plan(
      {'': setup.Variant(config, recipe)},
      extractor,
      weights,
      self.jobs,
      left,
      self.categories,
    )
    self.steps, stop, calls = {}, threading.Event(), []
    tests = {one.name: len(one.test) for one in self.categories}

    def on_steps(record):
      calls.append(record)
      if len(calls) == stop_after:
        stop.set()
      worker = threading.current_thread().name
      self.steps.setdefault(worker, {})[record.job] = record.step

    orders = setup.make_orders(
      config,
      recipe,
      extractor.level_offsets,
      test_images=tests.__getitem__,
      rank=lambda name: rank,
      checkpoints=checkpoints,
      on_steps=on_steps,
      stop=stop,
    )
    source = setup.make_source(
      config, extractor, weights, Path(config.data.root).parent
    )
    with engine.started(
      self.plan.rota,
      {'': change(orders) if change else orders},
      source,
      on_batch,
      may_shrink=config.engine.shrink,
    ) as records:
      self.records = {record.job: record for record in (*ended, *records)}
    if checkpoints:
      checkpoints.close()

  @property
  def shifts(self):
    return [shift for shifts in self.plan.rota for shift in shifts]

  def __eq__(self, other):
    assert self.records.keys() == other.records.keys()
    for job, record in self.records.items():
      theirs = other.records[job]
      np.testing.assert_array_equal(record.metrics, theirs.metrics)
      assert record.scores.keys() == theirs.scores.keys()
      for epoch, scores in record.scores.items():
        np.testing.assert_array_equal(scores, theirs.scores[epoch])
      if record.head and theirs.head:  # Those of earlier runs stay on disk.
        for name, leaf in record.head.items():
          np.testing.assert_array_equal(leaf, theirs.head[name])
    return True

  __hash__ = None
