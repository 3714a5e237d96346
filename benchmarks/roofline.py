"""Compiles the project's programs for an H200 and a TPU v5e, without a device.

  pip install -e '.[aot]'
  python -m benchmarks.roofline
  python -m benchmarks.roofline --device=v5e --program=step --precision=bfloat16

Says what XLA made of each: kernels, bytes, operations, the time that these take
at least, temporary memory, copies of the features, and how often a step waits
for the host. Times are no measurements. A GPU's are the longer of a kernel's
bytes and operations at the rates below, without what starting it takes, and
with products by cuBLAS, as kernels cannot be tried out. A TPU's are its
compiler's estimates. Writes benchmarks/results/roofline.json, where an entry of
the same name is replaced.
"""

import collections
import functools
import importlib.metadata
import itertools
import json
import pathlib
from typing import Any

import jax
from absl import flags

from benchmarks import aot, timing
from benchmarks.hlo import Kernel, Program
from simplenet_jax import cli
from simplenet_jax.evaluation import results
from simplenet_jax.fields import PRECISIONS

_BYTES_A_SECOND = 4.0e12  # An H200's memory, as programs reach it.
# Its operations a second, by the type of the factors: assumed likewise.
_FLOP_A_SECOND = {'bf16': 650e12, 'tf32': 350e12, 'f32': 50e12}
_V5E_HERTZ = 1.5e9
_SHOWN = 12  # Kernels that take longest.
_HOST = ('callback', 'infeed', 'outfeed', 'send', 'recv')


def microseconds(device: str, kernel: Kernel) -> float:
  """Returns what a kernel takes by the model, all times that it runs."""
  if device == 'v5e':
    return 1e6 * kernel.times * kernel.cycles / _V5E_HERTZ
  seconds = (kernel.read + kernel.written) / _BYTES_A_SECOND
  if kernel.flop:
    seconds = max(seconds, kernel.flop / _FLOP_A_SECOND[kernel.factors])
  return 1e6 * kernel.times * seconds


def describe(
  case: aot.Case, text: str, temporary: int, seconds: float | None
) -> dict[str, Any]:
  """Returns a program's figures; a step's are those of one, of all lanes."""
  program = Program(text)
  loops, body = program.loops(), program.entry
  if case.program == 'step':
    body = max(loops, key=lambda one: len(program.computations[one]))
  kernels = list(program.kernels(body))
  kinds = collections.defaultdict(float)
  for kernel in kernels:
    kinds[kernel.kind] += microseconds(case.device, kernel)
  found = {
    'kernels': sum(kernel.times for kernel in kernels),
    'megabytes': sum(k.times * (k.read + k.written) for k in kernels) / 1e6,
    'gflop': sum(kernel.times * kernel.flop for kernel in kernels) / 1e9,
    'microseconds': sum(kinds.values()),
    'temporary_megabytes': temporary / 1e6,
  }
  if seconds is not None:
    # With gathers, of which cycles are not told; each loop runs once.
    found['microseconds_of_all'] = 1e6 * seconds
  if case.program == 'step':
    levels = jax.tree.leaves(aot.stored_features(case, jax.ShapeDtypeStruct))
    stored = [one.size * one.dtype.itemsize for one in levels]
    # Half of the largest level: a copy may be in bfloat16.
    found['copies_of_features'] = sum(
      kernel.written >= max(stored) / 2
      for name in {program.entry, *loops}
      for kernel in program.kernels(name)
    )
    found['temporary_over_features'] = temporary / sum(stored)
    found['waits_for_the_host'] = waits(case, program, body)
  longest = sorted(
    kernels, key=functools.partial(microseconds, case.device), reverse=True
  )[:_SHOWN]
  return found | {
    'microseconds_by_kind': dict(kinds),
    'longest': [
      {
        'microseconds': microseconds(case.device, kernel),
        'megabytes': kernel.times * (kernel.read + kernel.written) / 1e6,
        'gflop': kernel.times * kernel.flop / 1e9,
        'kind': kernel.kind,
        'source': kernel.source,
      }
      for kernel in longest
    ],
  }


def waits(case: aot.Case, program: Program, body: str) -> int:
  """Returns how often a step, a loop's body, waits for the host."""
  asked = [kernel.kind for kernel in program.kernels(body)]
  count = sum(any(one in kind for one in _HOST) for kind in asked)
  if case.device == 'v5e':  # It follows loops and branches by itself.
    return count
  # The host of a GPU reads the conditions, but of loops of a known length.
  count += sum(i.op == 'conditional' for i in program.computations[body])
  return count + (program.loops()[body] is None)


def row(case: aot.Case, found: dict[str, Any]) -> str:
  """Returns a program's figures in a line."""
  named = f'{case.device} {case.program} {case.precision}'
  told = (
    f'{named:28}{found["kernels"]:5} kernels {found["megabytes"]:7.0f} MB '
    f'{found["gflop"]:6.1f} GFLOP {found["microseconds"]:7.0f} us '
    f'{found["temporary_megabytes"]:6.0f} MB temporary'
  )
  if case.program == 'step':
    told += (
      f' ({found["temporary_over_features"]:.2f} of the features), '
      f'{found["copies_of_features"]} copies of features, '
      f'{found["waits_for_the_host"]} waits a step'
    )
  return told


_DEVICE = flags.DEFINE_multi_enum(
  'device', ['h200', 'v5e'], ['h200', 'v5e'], 'What for; repeat for more.'
)
_PROGRAM = flags.DEFINE_multi_enum(
  'program', [*aot.LOWER], [*aot.LOWER], 'What.'
)
_PRECISION = flags.DEFINE_multi_enum(
  'precision', PRECISIONS, PRECISIONS, 'Of its products.'
)
_PROTOCOL = flags.DEFINE_string(
  'protocol', aot.Case.protocol, 'What is trained.'
)
_BANK = flags.DEFINE_string(
  'bank', aot.Case.bank, 'The type of stored features.'
)
_LANES = flags.DEFINE_integer('lanes', aot.Case.lanes, 'Heads side by side.', 1)
_BATCH = flags.DEFINE_integer(
  'batch',
  aot.Case.batch,
  'Images; 0: as training has it, one to predict.',
  0,
)
_SIDE = flags.DEFINE_integer(
  'side', aot.Case.side, 'Of an image, in pixels.', 32
)
_BRIEF = flags.DEFINE_bool('brief', False, 'Whether to name no kernels.')
_OUT = flags.DEFINE_string('out', '', 'A folder for the optimised programs.')


def main() -> None:
  """Compiles, prints and writes."""
  path, entries = timing.RESULTS / 'roofline.json', {}
  if path.exists():
    entries = json.loads(path.read_text())['programs']
  for device, program, precision in itertools.product(
    _DEVICE.value, _PROGRAM.value, _PRECISION.value
  ):
    case = aot.Case(
      *(device, program, precision, _PROTOCOL.value, _BANK.value),
      *(_LANES.value, _BATCH.value, _SIDE.value),
    )
    text, temporary, seconds = aot.compiled(case)
    if _OUT.value:
      name = f'{device}-{program}-{precision}.hlo'
      (pathlib.Path(_OUT.value) / name).write_text(text)
    found = describe(case, text, temporary, seconds)
    entries[str(case)] = found
    print(row(case, found), flush=True)
    if not _BRIEF.value:
      for one in found['longest']:
        print(
          f'  {one["microseconds"]:7.1f} us {one["megabytes"]:7.1f} MB '
          f'{one["gflop"]:6.1f} GFLOP  {one["kind"]:24} {one["source"][-70:]}'
        )
  versions = {
    name: importlib.metadata.version(name)
    for name in ('jax', 'jaxlib', 'jax-cuda12-plugin', 'libtpu')
  }
  results.write_json(path, {'versions': versions, 'programs': entries})


if __name__ == '__main__':
  cli.run(main)
