"""Which process of a run this is; nothing here imports jax.

Processes share the work directory and nothing else. Each trains the heads that
the plan gives its index, so an index and a count are all that it needs to know.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from absl import flags

from simplenet_jax.console import first_line


@dataclasses.dataclass(frozen=True)
class Processes:
  """One process among those of a run.

  Attributes:
    index: This process's, from 0.
    count: How many there are.
    on_host: How many share this machine and its memory, this one included.
  """

  index: int = 0
  count: int = 1
  on_host: int = 1


SINGLE = Processes()


def define_flags() -> None:
  """Defines the flags of a command that several processes can run together."""
  flags.DEFINE_integer(
    'process',
    None,
    'Which of several processes this is, from 0. SLURM and indexed jobs of '
    'Kubernetes tell it.',
    0,
  )
  flags.DEFINE_integer(
    'processes', None, 'How many processes share the work directory.', 1
  )
  flags.DEFINE_integer(
    'processes_on_host', None, 'How many of them share this machine.', 1
  )
  flags.DEFINE_bool(
    'multihost', False, 'Whether JAX is to tell, as it can on TPU pods.'
  )

  @flags.multi_flags_validator(
    ['process', 'processes', 'processes_on_host', 'multihost', 'workdir']
  )
  def _check(values: Mapping[str, Any]) -> bool:
    several = find(values, os.environ).count > 1 or values['multihost']
    if several and not values['workdir']:
      raise flags.ValidationError(
        'several processes need --workdir, on storage that all of them share'
      )
    return True


def from_flags() -> Processes:
  """Returns this process by the flags, by SLURM, Kubernetes or by JAX.

  Raises:
    ValueError: If JAX is to tell and finds no cluster.
  """
  values = flags.FLAGS.flag_values_dict()
  if not values['multihost']:
    return find(values, os.environ)
  import jax

  try:
    jax.distributed.initialize()
    index, count = jax.process_index(), jax.process_count()
    # From here on no process needs another; where one is lost, the runtime
    # would end the others.
    jax.distributed.shutdown()
  except (ValueError, TypeError, RuntimeError) as error:
    raise ValueError(
      '--multihost: JAX found no cluster, or not all of it came '
      f'({first_line(error)}); give --process and --processes'
    ) from None
  return Processes(index, count, values['processes_on_host'] or 1)


def find(values: Mapping[str, Any], environ: Mapping[str, str]) -> Processes:
  """Returns this process by the values of flags, else by the environment.

  Raises:
    flags.ValidationError: If the values do not go together.
  """
  index, count = values['process'], values['processes']
  if values['multihost']:
    if index is not None or count is not None:
      raise flags.ValidationError('--multihost finds --process by itself')
    return SINGLE
  # A batch script of SLURM is one process, whatever tasks it may start.
  in_task = 'SLURM_JOB_ID' not in environ or 'SLURM_STEP_ID' in environ
  slurm = in_task and {'SLURM_PROCID', 'SLURM_NTASKS'} <= environ.keys()
  on_host = 1
  if count is None and index is not None:
    raise flags.ValidationError('--process needs --processes, their number')
  if count is None and slurm:
    index = int(environ['SLURM_PROCID'])
    count = int(environ.get('SLURM_STEP_NUM_TASKS', environ['SLURM_NTASKS']))
    per_node = environ.get('SLURM_STEP_TASKS_PER_NODE', '1')  # As in 4(x2),3.
    on_host = max(int(part.split('(')[0]) for part in per_node.split(','))
  elif index is None and (count or 1) > 1:
    told = environ.get('JOB_COMPLETION_INDEX')
    if told is None and slurm:
      told = environ['SLURM_PROCID']
    if told is None:
      raise flags.ValidationError(f'--processes={count} needs --process')
    index = int(told)
  index, count = index or 0, count or 1
  if index >= count:
    raise flags.ValidationError(
      f'--process={index} is none of {count}, which are counted from 0'
    )
  return Processes(index, count, values['processes_on_host'] or on_host)
