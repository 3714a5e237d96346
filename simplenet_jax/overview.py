"""What a run says before it begins."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import logging

from simplenet_jax.config import (
  PROTOCOLS,
  Config,
  crop_caution,
  describe_protocol,
  from_protocol,
)
from simplenet_jax.console import console, counted, duration
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models.weights import Weights
from simplenet_jax.training import estimate, layout
from simplenet_jax.training.planning import Plan


def announce(
  configs: Sequence[Config],
  weights: Weights,
  categories: Sequence[Inputs],
  planned: Plan,
  workdir: Path,
) -> None:
  """Says what a run will do, on what, for how long and where it goes.

  Args:
    configs: The settings; those of several variants, if it is a sweep's.
    weights: The backbone's.
    categories: All of them.
    planned: What is left to do.
    workdir: Where results go.
  """
  config = configs[0]
  megabytes = sum(disk(c, weights, planned, categories) for c in configs) / 1e6
  devices = layout.chosen_devices(config)
  device, count = devices[0], len(devices)
  several = f', {count} of them' if count > 1 else ''
  variants = f'{len(configs)} variants x ' if len(configs) > 1 else ''
  console.print(
    f'SimpleNet, protocol {describe_protocol(config, weights.other)}: '
    f'{variants}'
    f'{counted(len(categories), "category", "categories")} x '
    f'{_seeds(config)}, '
    f'{counted(config.train.epochs, "epoch")}\n'
    f'  backbone  {config.backbone.name}, levels '
    f'{"+".join(map(str, config.backbone.levels))}, {weights.path}\n'
    f'  device    {device.device_kind} ({device.platform}){several}, '
    f'{config.precision}\n'
    f'{_plan(config, planned)}'
    f'  takes     about {duration(seconds(planned))} and compilation, by a '
    f'rough guess; {megabytes:.0f} MB of disk at most\n'
    f'  results   {workdir}/'
  )
  for one in categories:
    height, width = one.size
    console.print(
      f'  {one.name}: {one.category.describe()}, input {height} x {width}'
    )
    for few in dict.fromkeys(_longer(c, len(one.train)) for c in configs):
      if few:
        console.print(f'  {one.name}: {few}')
  for line in dict.fromkeys(map(_framing, configs)):
    if line:
      logging.warning('%s', line)


def _seeds(config: Config) -> str:
  """Returns how many seeds there are, or the number of one that is not 0."""
  if len(config.seeds) == 1 and config.seeds[0]:
    return f'1 seed (the one with number {config.seeds[0]})'
  return counted(len(config.seeds), 'seed')


def _longer(config: Config, images: int) -> str:
  """Returns why so few images train for more epochs, where they do."""
  usual, epochs = config.train.epochs, layout.epochs_of(config, images)
  if epochs == usual:
    return ''
  steps = -(-images // config.train.batch_size)
  return (
    f'{counted(usual * steps, "step")} in {counted(usual, "epoch")} are few; '
    f'trains {epochs:,} epochs, {epochs * steps:,} steps '
    '(--config.train.min_steps)'
  )


def _framing(config: Config) -> str:
  known = config.protocol in PROTOCOLS
  usual = from_protocol(config.protocol).data if known else None
  return crop_caution(config.data, usual)


def _plan(config: Config, planned: Plan) -> str:
  shifts = [shift for shifts in planned.rota for shift in shifts]
  if not shifts:
    return ''
  heads = sum(len(shift.jobs) for shift in shifts)
  streamed = [name for shift in shifts for name in shift.streamed]
  told = f'; streamed: {", ".join(dict.fromkeys(streamed))}' if streamed else ''
  return (
    f'  trains    {counted(heads, "head")}, {shifts[0].lanes} at a time per '
    f'device, {idle(planned):.1%} of head-steps idle\n'
    f'  holds     {max(s.bank_bytes for s in shifts) / 1e6:.0f} MB of features '
    f'({config.bank.dtype}) per device at most{told}\n'
  )


def idle(planned: Plan) -> float:
  """Returns the share of all devices' head-steps without a head, in [0, 1)."""
  if not planned.rota:
    return 0.0
  ends = [sum(shift.makespan for shift in shifts) for shifts in planned.rota]
  shifts = [shift for shifts in planned.rota for shift in shifts]
  needed = sum(job.steps for shift in shifts for job in shift.jobs)
  return 1 - needed / (max(ends) * shifts[0].lanes * planned.devices)


def disk(
  config: Config,
  weights: Weights,
  planned: Plan,
  categories: Sequence[Inputs],
) -> float:
  """Guesses the bytes that a run takes at most: heads under way take more."""
  heads = len(categories) * len(config.seeds)
  lanes = sum(shifts[0].lanes for shifts in planned.rota)
  # With both optimisers' moments, the latest checkpoint and the one before it.
  size = planned.head_bytes * (heads + 6 * lanes)
  size += 1e6 * bool(config.evaluation.pictures) * len(categories)
  if config.detector.save:
    # A head is smaller once its adaptor is folded.
    backbone = sum(leaf.nbytes for leaf in jax.tree.leaves(weights.state))
    heads = len(config.seeds) * planned.head_bytes
    size += (backbone + heads) * len(categories)
  if config.evaluation.maps:
    size += sum(4 * np.prod(f.original) for one in categories for f in one.test)
  return size


def seconds(planned: Plan) -> float:
  """Guesses the time of extraction and training.

  Returns:
    Seconds; right within a factor of two or so, without compilation,
    evaluation and slow storage.
  """
  shares = [sum(map(planned.operations, shifts)) for shifts in planned.rota]
  if not shares:
    return 0.0
  # Several devices on a CPU are one processor.
  on_cpu = planned.rota[0][0].device.platform == 'cpu'
  return (sum(shares) if on_cpu else max(shares)) / estimate.step_rate()
