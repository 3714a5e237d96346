"""What `benchmarks.reproducibility` runs, compares, and holds as promised."""

import dataclasses
from typing import Any

from benchmarks.reproducing.runs import Run

_TWO = '--xla_force_host_platform_device_count=2'  # Of CPUs alone.
_DETERMINISTIC = '--xla_gpu_deterministic_ops=true'
_TWO_DEVICES: dict[str, Any] = {'flags': _TWO, 'needs': 'devices'}
_WIDE = '2 at a time per device'

# By name; the first is what most others are compared with.
RUNS = {
  'base': Run(told='4 heads, 1 at a time per device'),
  'again': Run(needs='cpu'),
  'compiled anew': Run(environment={'JAX_ENABLE_COMPILATION_CACHE': 'false'}),
  'killed': Run(killed=True, told=r'resumes .* [1-9]\d* under way'),
  'devices': Run({'engine.devices': 2}, told='2 of them', **_TWO_DEVICES),
  'killed, devices': Run(
    {'engine.devices': 2},
    killed=True,
    told=r'2 of them(?s:.*)resumes .* [1-9]\d* under way',
    **_TWO_DEVICES,
  ),
  'processes': Run(processes=2, told='2 processes', needs='devices'),
  'fewer': Run(
    {'data.categories': 'wood,', 'seeds': '1,'}, told='1 category x 1 seed'
  ),
  'more': Run(
    {'data.categories': 'gasket,weave,wood', 'seeds': '0,1,2'},
    told='3 categories x 3 seeds',
  ),
  'decoding': Run({'data.workers': 1}),
  'batch 1': Run({'backbone.batch_size': 1}),
  'batch 32': Run({'backbone.batch_size': 32}),
  'host': Run({'bank.device_gb': 0.03}, told='streamed: gasket, wood'),
  'file': Run(
    {'bank.device_gb': 0.03, 'bank.host_gb': 1e-6},
    told='streamed: gasket, wood',
  ),
  'one core': Run(
    flags='--xla_cpu_multi_thread_eigen=false', cores=1, needs='cpu'
  ),
  'eight threads': Run(environment={'NPROC': '8'}, needs='cpu'),
  'lanes 2': Run({'engine.lanes': 2}, told=_WIDE),
  'lanes 4': Run({'engine.lanes': 4}, told='4 at a time per device'),
  'lanes 2, devices': Run(
    {'engine.lanes': 2, 'engine.devices': 2},
    told=rf'2 of them(?s:.*){_WIDE}',
    **_TWO_DEVICES,
  ),
  'lanes 2, others': Run(
    {'engine.lanes': 2, 'data.categories': 'wood,', 'seeds': '1,2'}, told=_WIDE
  ),
  'stored bfloat16': Run({'bank.dtype': 'bfloat16'}, told=r'\(bfloat16\)'),
  'tensorfloat32': Run({'precision': 'tensorfloat32'}, told=', tensorfloat32'),
  'bfloat16': Run({'precision': 'bfloat16'}, told=', bfloat16'),
  'gpu again': Run(needs='gpu'),
  'deterministic': Run(flags=_DETERMINISTIC, needs='gpu'),
  'deterministic again': Run(flags=_DETERMINISTIC, needs='gpu'),
  'cpu': Run(environment={'JAX_PLATFORMS': 'cpu'}, needs='gpu'),
  'seeds': Run({'seeds': '2,3'}, first_seed=2),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A comparison.

  Attributes:
    what: The thing that is another one.
    run: Which run.
    promise: 'bit-identical': everything is, on a CPU, by the README, the guides
      and the tests; elsewhere it is 'close'. 'close': weights, losses and
      scores are nearer than another seed's. 'nothing'.
    against: The run that it is compared with.
  """

  what: str
  run: str
  promise: str
  against: str = 'base'


SAME, CLOSE = 'bit-identical', 'close'
ROWS = (
  Row('run again', 'again', SAME),
  Row('compiled anew, not read from the cache', 'compiled anew', SAME),
  Row('killed and taken up again', 'killed', SAME),
  Row('two devices', 'devices', SAME),
  Row('killed, taken up on two devices', 'killed, devices', SAME),
  Row('two processes', 'processes', SAME),
  Row('one category and seed alone', 'fewer', SAME),
  Row('a third category and seed beside', 'more', SAME),
  Row('one decoding thread', 'decoding', SAME),
  Row('backbone, 1 image a pass instead of 8', 'batch 1', CLOSE),
  Row('backbone, 32 images a pass', 'batch 32', CLOSE),
  Row('features streamed from host memory', 'host', SAME),
  Row('features streamed from a file', 'file', SAME),
  Row('one core, one thread', 'one core', CLOSE),
  Row('eight threads', 'eight threads', CLOSE),
  Row('2 lanes instead of 1', 'lanes 2', CLOSE),
  Row('4 lanes', 'lanes 4', CLOSE),
  Row('2 lanes on two devices', 'lanes 2, devices', CLOSE),
  Row('the same, against 2 lanes', 'lanes 2, devices', SAME, 'lanes 2'),
  Row(
    '2 lanes, another head beside, against 2 lanes',
    'lanes 2, others',
    SAME,
    'lanes 2',
  ),
  Row('features in bfloat16', 'stored bfloat16', CLOSE),
  Row('products in TensorFloat-32', 'tensorfloat32', CLOSE),
  Row('products in bfloat16', 'bfloat16', CLOSE),
  Row('GPU, run again', 'gpu again', CLOSE),
  Row('GPU, with deterministic operations', 'deterministic', CLOSE),
  Row(
    'GPU, run again, both with deterministic operations',
    'deterministic again',
    CLOSE,
    'deterministic',
  ),
  Row('CPU against GPU', 'cpu', CLOSE),
  Row('other seeds', 'seeds', 'nothing'),
)
