"""What a run runs on: versions, devices, memory; jax is loaded when asked."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = (
  'flax',
  'jax',
  'jaxlib',
  'numpy',
  'optax',
  'pillow',
  'scikit-learn',
  'scipy',
  'simplenet-jax',
)


def versions() -> dict[str, str]:
  """Returns the versions of Python and of the packages that figures rest on."""
  found = {'python': platform.python_version()}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = 'not installed'
  return found


def device() -> dict[str, Any]:
  """Returns JAX's `platform`, `kind` and `count`; the `host` and its `cores`.

  `processes` is how many processes the devices belong to.
  """
  import jax

  devices = jax.devices()
  return {
    'platform': devices[0].platform,
    'kind': devices[0].device_kind,
    'count': len(devices),
    'processes': jax.process_count(),
    'host': _processor(),
    'cores': os.cpu_count(),
  }


def is_out_of_memory(error: BaseException) -> bool:
  """Returns whether an error says that a device is out of memory."""
  # JAX has no class of its own for it.
  return isinstance(error, RuntimeError) and 'RESOURCE_EXHAUSTED' in str(error)


def missing_backend() -> str:
  """Returns what to say where JAX finds no device, or '' where it does.

  The sentence names `JAX_PLATFORMS` and what is there. JAX is of no more use in
  this process afterwards.
  """
  import jax

  try:
    jax.devices()
    return ''
  except Exception as error:  # JAX asserts, too.
    found, asked = str(error), os.environ.get('JAX_PLATFORMS')
  try:
    jax.config.update('jax_platforms', None)
    there = ', '.join(sorted({one.platform for one in jax.devices()}))
  except Exception:
    there = ''
  if not asked or not there:
    return f'jax finds no device on this machine ({found})'
  return (
    f'JAX_PLATFORMS is {asked}, which jax does not find on this machine; there '
    f'is {there}: unset JAX_PLATFORMS or set it to that, or install jax for '
    f'{asked}'
  )


def _processor() -> str:
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return platform.processor()
  names = [
    line.split(':')[1] for line in lines if line.startswith('model name')
  ]
  return names[0].strip() if names else platform.processor()
