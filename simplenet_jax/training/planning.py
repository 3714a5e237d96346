"""What a run will do, before it does it."""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.training import estimate, layout, setup
from simplenet_jax.training.bank import Extractor
from simplenet_jax.training.job import Job
from simplenet_jax.training.setup import Variant

Size = tuple[int, int]  # Of an input: height and width in pixels.


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run will do.

  Attributes:
    rota: The shifts of each device, see `layout.lay_out`.
    devices: How many the run uses.
    image_flops: Operations of one image's features, by input size.
    step_flops: Operations of one step, by variant and input size.
    head_bytes: Size of a head's weights, of the largest.
  """

  rota: list[list[layout.Shift]]
  devices: int
  image_flops: dict[Size, float]
  step_flops: dict[tuple[str, Size], float]
  head_bytes: int

  def operations(self, shift: layout.Shift) -> float:
    """Returns what a shift computes, features and steps."""
    size = shift.categories[0].size
    images = sum(one.images for one in shift.categories)
    return self.image_flops[size] * images + sum(
      self.step_flops[job.variant, size] * job.steps for job in shift.jobs
    )


def make_plan(
  variants: Mapping[str, Variant],
  extractor: Extractor,
  weights_state: dict[str, np.ndarray],
  jobs: Sequence[Job],
  left: Sequence[Job],
  categories: Sequence[Inputs],
  budget: int | None = None,
) -> Plan:
  """Plans the training of some heads.

  Args:
    variants: What they are trained with, by name; alike in all that concerns
      features and devices.
    extractor: From pixels to features.
    weights_state: The backbone's.
    jobs: All heads.
    left: Those that are left to train.
    categories: Of all heads.
    budget: Bytes that features may take on each device; `layout.bank_budget`
      of this process alone if not given.

  Raises:
    ValueError: If a device cannot hold the images of a step, or there are fewer
      devices than the config asks for.
  """
  level_offsets = extractor.level_offsets
  heads_of = {
    name: jax.eval_shape(
      lambda one=one: setup.init_head(
        one.config, level_offsets, one.recipe, setup.head_key(0, '')
      )
    )
    for name, one in variants.items()
  }
  shapes = {
    size: extractor.shapes(weights_state, size)
    for size in {one.size for one in categories}
  }
  step_flops = {
    (name, size): estimate.step_flops(shape, one.recipe, heads_of[name])
    for name, one in variants.items()
    for size, shape in shapes.items()
  }
  config = next(iter(variants.values())).config
  return Plan(
    rota=layout.lay_out(
      config,
      jobs,
      left,
      categories,
      shapes,
      max(step_flops.values()),
      layout.bank_budget(config) if budget is None else budget,
    ),
    devices=len(layout.chosen_devices(config)),
    image_flops={
      size: estimate.image_flops(extractor, weights_state, size)
      for size in shapes
    },
    step_flops=step_flops,
    head_bytes=max(
      sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(head.params)
      )
      for head in heads_of.values()
    ),
  )
