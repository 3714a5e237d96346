"""A training from end to end, as its devices left it."""

import threading
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

from simplenet_jax.data import dataset
from simplenet_jax.models.simplenet import FeatureNetwork
from simplenet_jax.training import bank, engine, layout, step, worker
from simplenet_jax.training.checkpoint import Checkpoints


def rank(scores):
  return float(scores.mean())


class Ran:
  """The heads of one training."""

  def __init__(
    self, config, workdir=None, init=None, stop_after=None, on_batch=None
  ):
    """Trains, with checkpoints in a `workdir` if there is one.

    `init` changes a head's first state; `on_batch` also gets the event that
    stops; `stop_after` so many calls of `on_steps` it is told to stop.
    """
    self.categories = dataset.open_categories(config.data).categories
    weights = bank.load_backbone(config)
    self.jobs = layout.make_jobs(config, self.categories)
    nothing = mock.Mock(load=lambda *_: None)
    checkpoints = Checkpoints(workdir) if workdir else nothing
    saved = [checkpoints.load(job, rank) for job in self.jobs]
    saved = [one[0] for one in saved if one]
    ended = [head for head in saved if head.finished]
    left = [job for job in self.jobs if job not in {r.job for r in ended}]
    self.resumed = len(saved) - len(ended)
    sizes = {one.size for one in self.categories}
    self.schedule = layout.lay_out(
      config,
      self.jobs,
      left,
      self.categories,
      {size: bank.shapes(config, weights.state, size) for size in sizes},
    )
    self.steps, stop, calls = {}, threading.Event(), []

    def on_steps(progress):
      calls.append(progress)
      if len(calls) == stop_after:
        stop.set()
      device = jax.config.jax_default_device
      self.steps.setdefault(device, {})[progress.job] = progress.step

    run = layout.RunInputs(
      config,
      weights,
      step.make_recipe(config, FeatureNetwork.of(config).level_offsets),
      Path(config.data.root).parent,
      rank=lambda name: rank,
      checkpoints=checkpoints,
      on_batch=lambda *what: on_batch and on_batch(stop, *what),
      on_steps=on_steps,
      stop=stop,
    )
    with pytest.MonkeyPatch.context() as patched:
      if init:
        own = worker.DeviceLoop._fresh
        patched.setattr(
          worker.DeviceLoop, '_fresh', lambda of, job: init(job, own(of, job))
        )
      with engine.started(self.schedule, run) as heads:
        self.heads = {head.job: head for head in (*ended, *heads)}

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
