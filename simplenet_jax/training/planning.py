"""What a run will do, before it does it."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from simplenet_jax.config import Config
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.training import estimate, layout, step
from simplenet_jax.training.bank import Extractor
from simplenet_jax.training.job import Job

Size = tuple[int, int]  # Of an input: height and width in pixels.


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a run will do.

  Attributes:
    rota: The shifts of each device, see `layout.lay_out`.
    devices: How many the run uses.
    image_flops: Operations of one image's features, by input size.
    step_flops: Operations of one step, by input size.
    head_bytes: Size of a head's weights, of the largest.
  """

  rota: list[list[layout.DeviceTask]]
  devices: int
  image_flops: dict[Size, float]
  step_flops: dict[Size, float]
  head_bytes: int

  def operations(self, shift: layout.DeviceTask) -> float:
    """Returns what a shift computes, features and steps."""
    size = shift.categories[0].size
    images = sum(one.images for one in shift.categories)
    return self.image_flops[size] * images + sum(
      self.step_flops[size] * job.steps for job in shift.jobs
    )


def make_plan(
  config: Config,
  recipe: step.Recipe,
  extractor: Extractor,
  weights_state: dict[str, np.ndarray],
  jobs: Sequence[Job],
  left: Sequence[Job],
  categories: Sequence[Inputs],
  budget: int,
) -> Plan:
  """Plans the training of the heads in `left`, of all `jobs`.

  Raises:
    ValueError: If a device cannot hold the images of a step, or there are fewer
      devices than the config asks for.
  """
  head = jax.eval_shape(lambda: step.init_head(recipe, step.head_key(0, '')))
  shapes = {
    size: extractor.shapes(weights_state, size)
    for size in {one.size for one in categories}
  }
  step_flops = {
    size: estimate.step_flops(shape, recipe, head)
    for size, shape in shapes.items()
  }
  return Plan(
    rota=layout.lay_out(
      config,
      jobs,
      left,
      categories,
      shapes,
      max(step_flops.values()),
      budget,
    ),
    devices=len(layout.chosen_devices(config)),
    image_flops={
      size: estimate.image_flops(extractor, weights_state, size)
      for size in shapes
    },
    step_flops=step_flops,
    head_bytes=sum(
      leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(head.params)
    ),
  )
