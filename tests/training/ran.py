"""A training from end to end, as its devices left it."""

import threading
from pathlib import Path

import numpy as np

from simplenet_jax.data import dataset
from simplenet_jax.training import bank, engine, layout, step, store
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.worker import HeadSettings


def rank(scores):
  return float(scores.mean())


class Ran:
  """The heads of one training."""

  def __init__(
    self, config, workdir=None, init=None, stop_after=None, on_batch=None
  ):
    """Trains.

    Args:
      config: The settings.
      workdir: Where checkpoints go, if anywhere.
      init: Makes a head's state in place of `HeadSettings.init`.
      stop_after: Calls of `on_steps` after which it is told to stop.
      on_batch: Called as `engine.started` does, and with the event that stops.
    """
    self.categories = dataset.open_categories(config.data).categories
    extractor = bank.make_extractor(config)
    weights = bank.load_backbone(config)
    self.jobs = layout.make_jobs(config, self.categories)
    checkpoints = Checkpoints(workdir) if workdir else None
    ended, left = [], self.jobs
    if checkpoints:
      saved = [checkpoints.load(job, rank) for job in self.jobs]
      ended = [one[0] for one in saved if one and one[0].finished]
      left = [job for job in self.jobs if job not in {r.job for r in ended}]
    sizes = {one.size for one in self.categories}
    self.schedule = layout.lay_out(
      config,
      self.jobs,
      left,
      self.categories,
      {size: extractor.shapes(weights.state, size) for size in sizes},
      1e9,
      layout.bank_budget(config),
    )
    self.steps, stop, calls = {}, threading.Event(), []

    def on_steps(progress):
      calls.append(progress)
      if len(calls) == stop_after:
        stop.set()
      worker = threading.current_thread().name
      self.steps.setdefault(worker, {})[progress.job] = progress.step

    settings = HeadSettings(
      config,
      step.make_recipe(config, extractor.level_offsets),
      {one.name: len(one.test) for one in self.categories},
      rank=lambda name: rank,
      checkpoints=checkpoints,
      on_steps=on_steps,
      stop=stop,
    )
    if init:
      own = settings.init
      object.__setattr__(settings, 'init', lambda job: init(job, own(job)))
    extraction = store.extraction_settings(
      config, extractor, weights, Path(config.data.root).parent
    )
    told = (
      (lambda *what: on_batch(stop, *what)) if on_batch else lambda *_: None
    )
    with engine.started(self.schedule, settings, extraction, told) as heads:
      self.heads = {head.job: head for head in (*ended, *heads)}
    if checkpoints:
      checkpoints.close()

  @property
  def tasks(self):
    return [task for tasks in self.schedule for task in tasks]

  def __eq__(self, other):
    assert self.heads.keys() == other.heads.keys()
    for job, head in self.heads.items():
      theirs = other.heads[job]
      np.testing.assert_array_equal(head.metrics, theirs.metrics)
      assert head.scores.keys() == theirs.scores.keys()
      for epoch, scores in head.scores.items():
        np.testing.assert_array_equal(scores, theirs.scores[epoch])
      if head.head and theirs.head:  # Those of earlier runs stay on disk.
        for name, leaf in head.head.items():
          np.testing.assert_array_equal(leaf, theirs.head[name])
    return True

  __hash__ = None
