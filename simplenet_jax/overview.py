"""What a run says before it begins."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simplenet_jax import protocols
from simplenet_jax.data import folder
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.models.weights import Weights
from simplenet_jax.progress import console, counted, duration
from simplenet_jax.protocols import Config
from simplenet_jax.training import engine, estimate, plan
from simplenet_jax.training.setup import Plan


def announce(
  config: Config,
  weights: Weights,
  categories: Sequence[Inputs],
  planned: Plan,
  workdir: Path,
) -> None:
  """Says what the run will do, on what, for how long and where it goes.

  Args:
    config: The settings.
    weights: The backbone's.
    categories: All of them.
    planned: What is left to do.
    workdir: Where results go.
  """
  disk = 2.5e6 * len(categories)  # A picture sheet, mostly.
  if config.evaluation.maps:
    disk += sum(4 * np.prod(f.original) for one in categories for f in one.test)
  devices = engine.chosen_devices(config)
  device, count = devices[0], len(devices)
  several = f', {count} of them' if count > 1 else ''
  console.print(
    f'SimpleNet, protocol {protocols.followed(config)}: '
    f'{counted(len(categories), "category", "categories")} x '
    f'{counted(len(config.seeds), "seed")}, '
    f'{counted(config.train.epochs, "epoch")}\n'
    f'  backbone  {config.backbone.name}, levels '
    f'{"+".join(map(str, config.backbone.levels))}, {weights.path}\n'
    f'  device    {device.device_kind} ({device.platform}){several}, '
    f'{config.precision}\n'
    f'{_plan(config, planned)}'
    f'  takes     about {duration(seconds(planned))} and compilation, by a '
    f'rough guess; {disk / 1e6:.0f} MB of disk\n'
    f'  results   {workdir}/'
  )
  for one in categories:
    height, width = one.size
    console.print(
      f'  {one.name}: {folder.describe(one.category)}, input {height} x {width}'
    )


def _plan(config: Config, planned: Plan) -> str:
  shifts = [shift for group in planned.groups for shift in group]
  if not shifts:
    return ''
  heads = sum(len(shift.jobs) for shift in shifts)
  lanes = max(shift.lanes for shift in shifts)
  streamed = [name for shift in shifts for name in shift.streamed]
  told = f'; streamed: {", ".join(dict.fromkeys(streamed))}' if streamed else ''
  return (
    f'  trains    {counted(heads, "head")}, {lanes} at a time per device, '
    f'{idle(planned):.1%} of head-steps idle\n'
    f'  holds     {max(s.bank_bytes for s in shifts) / 1e6:.0f} MB of features '
    f'({config.bank.dtype}) per device at most{told}\n'
  )


def idle(planned: Plan) -> float:
  """Returns the share of all devices' head-steps without a head, in [0, 1)."""
  spent = needed = 0
  for group in planned.groups:
    ends = [plan.makespan(shift.jobs, shift.lanes) for shift in group]
    spent += max(ends) * sum(shift.lanes for shift in group)
    needed += sum(job.steps for shift in group for job in shift.jobs)
  return 1 - needed / spent if spent else 0.0


def seconds(planned: Plan) -> float:
  """Guesses the time of extraction and training.

  Returns:
    Seconds; right within a factor of two or so, without compilation,
    evaluation and slow storage.
  """
  operations = 0.0
  for group in planned.groups:
    shares = []
    for shift in group:
      image, step = planned.flops[shift.categories[0].size]
      images = sum(one.images for one in shift.categories)
      steps = sum(job.steps for job in shift.jobs)
      shares.append(image * images + step * steps)
    # Several devices on a CPU are one processor.
    on_cpu = group[0].device.platform == 'cpu'
    operations += sum(shares) if on_cpu else max(shares)
  return operations / estimate.step_rate() if operations else 0.0
