"""The project's programs, compiled for devices that are not there."""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from simplenet_jax import config
from simplenet_jax.models import simplenet
from simplenet_jax.training import bank, lanes, step, worker
from simplenet_jax.training.levels import Levels

Place = Callable[[tuple[int, ...], Any], Any]  # An abstract array.

_TARGET = pathlib.Path(__file__).parent / 'h200.txtpb'
_PLATFORMS = {'h200': 'gpu', 'v5e': 'tpu'}


@dataclasses.dataclass(frozen=True)
class Case:
  """What is compiled, and for which device."""

  device: str  # h200 or v5e.
  program: str  # One of `LOWER`.
  precision: str  # Of the products.
  protocol: str = 'reference'
  bank: str = 'auto'  # The type of stored features.
  lanes: int = 1  # Heads side by side.
  batch: int = 0  # Images; 0: as training has it, one to predict.
  side: int = 288  # Of an image, in pixels.
  images: int = 391  # Whose features are there: MVTec AD's hazelnuts.
  steps: int = worker.LOOP  # Of a call.

  def __str__(self) -> str:
    named = f'{self.device} {self.program} {self.precision}'
    others = (
      f' {one.name}={getattr(self, one.name)}'
      for one in dataclasses.fields(self)[3:]
      if getattr(self, one.name) != one.default
    )
    return named + ''.join(others)

  @property
  def config(self) -> Any:
    """A run's settings."""
    made = config.from_protocol(self.protocol)
    made.precision = made.backbone.precision = self.precision
    made.bank.dtype = self.bank
    return made

  @property
  def network(self) -> simplenet.FeatureNetwork:
    """The way to features."""
    return simplenet.FeatureNetwork.of(self.config)


def compiler(device: str) -> tuple[Any, dict[str, Any]]:
  """Returns a device that is described only, and its compiler's options."""
  jax.config.update('jax_platforms', 'cpu')
  if device == 'h200':
    described = topologies.get_topology_desc(
      platform='cuda', target_config=_TARGET.read_text(), topology='1x1x1'
    )
    # Both would try kernels out.
    tried = {'xla_gpu_autotune_level': 0, 'xla_gpu_enable_triton_gemm': False}
    return described.devices[0], tried
  # Else libtpu takes a lock on devices, and asks Google Cloud who it is.
  os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
  os.environ['TPU_SKIP_MDS_QUERY'] = '1'
  os.environ['TPU_ACCELERATOR_TYPE'] = 'v5litepod-4'
  os.environ['TPU_WORKER_HOSTNAMES'] = 'localhost'
  described = topologies.get_topology_desc(
    platform='tpu', topology_name='v5e:2x2'
  )
  return described.devices[0], {}


def raw_weights(case: Case, place: Place) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns a backbone's weights as files have them."""
  weights, network = {}, case.network
  for name, _, shape in network.spec.layers(network.levels):
    weights[f'{name}.kernel'] = place(shape, jnp.float32)
    weights[f'{name}.bias'] = place(shape[-1:], jnp.float32)
  return weights


def prepared(
  case: Case, raw: Any, place: Place, precision: str
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns weights as a program takes them."""
  layout = simplenet.layout_for(_PLATFORMS[case.device], precision)
  made = jax.eval_shape(
    lambda raw: simplenet.prepare(case.network, raw, precision, layout), raw
  )
  return jax.tree.map(lambda x: place(x.shape, x.dtype), made)


def stored_features(case: Case, place: Place) -> Levels:
  """Returns the features of all images as they lie on a device."""
  weights = raw_weights(case, place)
  shapes = bank.shapes(case.config, weights, (case.side, case.side))
  levels = jax.eval_shape(lambda: Levels.empty(shapes, case.images, None))
  return jax.tree.map(lambda one: place(one.shape, one.dtype), levels)


def step_arguments(case: Case, place: Place) -> tuple[Any, ...]:
  """Returns what `lanes.advance` takes."""
  made, count = case.config, case.lanes
  offsets, dim = case.network.level_offsets, case.network.dim
  recipe = step.make_recipe(made, offsets, dim)
  head = jax.eval_shape(lambda: step.init_head(recipe, step.head_key(0, '')))
  states = jax.tree.map(lambda x: place((count, *x.shape), x.dtype), head)
  levels = stored_features(case, place)
  positions = math.prod(levels.grids[0])
  places = place((count, positions), jnp.int32), place((count,), jnp.int32)
  batch = count, case.steps, case.batch or made.train.batch_size
  inputs = lanes.StepInputs(
    rows=place(batch, jnp.int32),
    valid=place(batch, jnp.float32),
    keys=place((count, 2), jnp.uint32),
    first=place((count,), jnp.int32),
    sigma=place((count,), jnp.float32),
    rate=place(batch[:2], jnp.float32),
    places=places if recipe.patches else None,
  )
  return recipe, states, levels, inputs


def lower_step(case: Case, place: Place) -> jax.stages.Lowered:
  """Lowers the loop over steps."""
  return lanes.advance.lower(*step_arguments(case, place))


def lower_extract(case: Case, place: Place) -> jax.stages.Lowered:
  """Lowers the extraction of features."""
  network, batch = bank.Extraction.of(case.config), case.batch or 32
  weights = prepared(case, raw_weights(case, place), place, case.precision)
  pixels = place((batch, case.side, case.side, 3), jnp.uint8)
  return bank.extract.lower(network, weights, pixels)


def lower_predict(case: Case, place: Place) -> jax.stages.Lowered:
  """Lowers a detector's way from pixels to maps."""
  size, hidden = (case.side, case.side), case.config.head.hidden
  network = simplenet.Network.of(case.config, size=size, smoothing=4.0)
  raw = raw_weights(case, place)
  raw['head.first.kernel'] = place((network.dim, hidden), jnp.float32)
  raw['head.first.bias'] = raw['head.tail'] = place((hidden,), jnp.float32)
  weights = prepared(case, raw, place, case.precision)
  pixels = place((case.batch or 1, *size, 3), jnp.uint8)
  return simplenet.run.lower(network, weights, pixels, case.precision)


def lower_normalize(case: Case, place: Place) -> jax.stages.Lowered:
  """Lowers what brings pixels to the range that the backbone knows."""
  pixels = place((case.batch or 32, case.side, case.side, 3), jnp.uint8)
  table = case.network.spec.table
  return jax.jit(lambda x: simplenet.normalized(x, table)).lower(pixels)


LOWER = {
  'step': lower_step,
  'extract': lower_extract,
  'predict': lower_predict,
  'normalize': lower_normalize,
}


def compiled(case: Case) -> tuple[str, int, float | None]:
  """Compiles a program.

  Returns what became of it, its temporary bytes, and the seconds that it takes
  by its compiler's estimate, where there is one.
  """
  device, options = compiler(case.device)
  sharding = jax.sharding.SingleDeviceSharding(device)
  place = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
  with jax.default_matmul_precision('float32'):
    lowered = LOWER[case.program](case, place)
  made = lowered.compile(compiler_options=options)
  text, memory = made.as_text(), made.memory_analysis()
  if text is None or memory is None:
    raise ValueError(f'{case}: its compiler tells nothing of its program')
  seconds = (made.cost_analysis() or {}).get('optimal_seconds')
  return text, int(memory.temp_size_in_bytes), seconds
