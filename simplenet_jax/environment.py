"""What a run runs on: versions, devices, and which of its processes this is.

Processes share the work directory and nothing else. Each trains the heads that
the plan gives its index, so an index and a count are all that it needs to know.
Nothing here imports jax before it is asked for.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from simplenet_jax.console import first_line

flags.disclaim_key_flags()  # They belong to the command that defines them.

_PACKAGES = 'flax jax jaxlib numpy optax pillow scikit-learn scipy'
_PROGRAMS = 1000  # That are kept from command to command.
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
# Of the compilation cache: bytes at most, and what is worth keeping.
_COMPILED = {
  'JAX_COMPILATION_CACHE_MAX_SIZE': str(2**28),
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
}


def keep_compiled() -> None:
  """Has JAX keep what it compiles in the user's cache, for later commands.

  JAX's own variables name another folder (`JAX_COMPILATION_CACHE_DIR`) or none
  (`JAX_ENABLE_COMPILATION_CACHE=0`). Where it cannot write, nothing is kept.
  """
  if _CACHE in os.environ:
    return
  # Machines that share a home may lack each other's instructions.
  kind, home = platform.machine(), os.environ.get('XDG_CACHE_HOME')
  with contextlib.suppress(OSError), Path('/proc/cpuinfo').open() as file:
    kind += ''.join(re.findall('(?:flags|Features).*', file.read(2**14))[:1])
  name = f'simplenet_jax/{hashlib.sha256(kind.encode()).hexdigest()[:16]}'
  # The latter is Path's, where there is no home.
  with contextlib.suppress(OSError, RuntimeError):
    folder = Path(home or '~/.cache').expanduser() / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / '.lockfile').open('w') as lock:  # JAX's.
      fcntl.flock(lock, fcntl.LOCK_EX)
      # JAX looks at all of them with each one that it adds.
      kept = sorted(folder.glob('*-atime'), key=lambda x: x.stat().st_mtime)
      names = {one.name[:-6] for one in kept[-_PROGRAMS:]}
      for one in folder.glob('*-*'):
        # Where there is no time, a kill left half a program.
        if one.name[:-6] not in names:
          one.unlink()
    for variable, value in {**_COMPILED, _CACHE: str(folder)}.items():
      os.environ.setdefault(variable, value)


def versions() -> dict[str, str]:
  """Returns the versions of Python and of the packages that figures rest on."""
  found = {'python': platform.python_version()}
  for package in (*_PACKAGES.split(), 'simplenet-jax'):
    found[package] = 'not installed'
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[package] = importlib.metadata.version(package)
  return found


def device() -> dict[str, Any]:
  """Returns what JAX computes on, for how many processes, and the host."""
  import jax

  devices, host = jax.devices(), None
  with contextlib.suppress(OSError):
    cores = Path('/proc/cpuinfo').read_text()
    host = re.search(r'^model name\s*: (.+)$', cores, re.MULTILINE)
  return {
    'platform': devices[0].platform,
    'kind': devices[0].device_kind,
    'count': len(devices),
    'processes': jax.process_count(),
    'host': host[1] if host else platform.processor(),
    'cores': os.cpu_count(),
  }


def is_out_of_memory(error: BaseException) -> bool:
  """Returns whether an error says that a device is out of memory."""
  # JAX has no class of its own for it.
  return isinstance(error, RuntimeError) and 'RESOURCE_EXHAUSTED' in str(error)


def missing_backend() -> str:
  """Returns what to say where JAX finds no device, or '' where it does."""
  import jax

  try:
    jax.devices()
    return ''
  except Exception as error:  # JAX asserts, too.
    asked = os.environ.get('JAX_PLATFORMS')
    if not asked:
      return f'jax finds no device on this machine ({error})'
    return (
      f'JAX_PLATFORMS is {asked}, which jax does not find on this machine; '
      f'unset it, or install jax for {asked}'
    )


@dataclasses.dataclass(frozen=True)
class Processes:
  """One process among those of a run."""

  index: int = 0  # This process's, from 0.
  count: int = 1
  on_host: int = 1  # How many share this machine, this one included.


SINGLE = Processes()


def define_flags() -> None:
  """Defines the flags of a command that trains, also by several processes."""
  where = 'Where results go; runs/<config>-<time> if not given.'
  flags.DEFINE_string('workdir', None, where)
  flags.DEFINE_bool('strict', False, 'Whether an unreadable image ends a run.')
  which = 'Which process this is, from 0. SLURM and Kubernetes tell it.'
  flags.DEFINE_integer('process', None, which, 0)
  flags.DEFINE_integer('processes', None, 'How many share --workdir.', 1)
  on_host = 'How many of them share this machine.'
  flags.DEFINE_integer('processes_on_host', None, on_host, 1)
  flags.DEFINE_bool('multihost', False, 'Whether JAX tells, as on TPU pods.')

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
  """Returns this process by the flags, by SLURM, Kubernetes or by JAX."""
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
  """Returns this process by flags, if they go together, or the environment."""
  index, count = values['process'], values['processes']
  if values['multihost'] and (index, count) != (None, None):
    raise flags.ValidationError('--multihost finds --process by itself')
  if values['multihost']:
    return SINGLE
  # A batch script of SLURM is one process, whatever tasks it may start.
  in_task = 'SLURM_JOB_ID' not in environ or 'SLURM_STEP_ID' in environ
  is_told = in_task and {'SLURM_PROCID', 'SLURM_NTASKS'} <= environ.keys()
  slurm = environ if is_told else {}
  on_host = 1
  if count is None and index is not None:
    raise flags.ValidationError('--process needs --processes, their number')
  if count is None and slurm:
    index = int(slurm['SLURM_PROCID'])
    count = int(slurm.get('SLURM_STEP_NUM_TASKS', slurm['SLURM_NTASKS']))
    per_node = slurm.get('SLURM_STEP_TASKS_PER_NODE', '1')  # As in 4(x2),3.
    on_host = max(int(part.split('(')[0]) for part in per_node.split(','))
  elif index is None and (count or 1) > 1:
    told = environ.get('JOB_COMPLETION_INDEX', slurm.get('SLURM_PROCID'))
    if told is None:
      raise flags.ValidationError(f'--processes={count} needs --process')
    index = int(told)
  index, count = index or 0, count or 1
  if index >= count:
    raise flags.ValidationError(
      f'--process={index} is none of {count}, which are counted from 0'
    )
  return Processes(index, count, values['processes_on_host'] or on_host)
