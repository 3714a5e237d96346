"""What a run ran on, for those who read its figures later."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax

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
  """Returns the accelerator (or CPU) that JAX uses, and the host's processor.

  Returns:
    `platform`, `kind` and `count` of JAX's devices, how many `processes` have
    them, `host` and its `cores`.
  """
  devices = jax.devices()
  return {
    'platform': devices[0].platform,
    'kind': devices[0].device_kind,
    'count': len(devices),
    'processes': jax.process_count(),
    'host': _processor(),
    'cores': os.cpu_count(),
  }


def missing_backend() -> str:
  """Returns what to say where JAX finds no device of the kind asked for.

  Returns:
    A sentence that names `JAX_PLATFORMS` and what is there; nothing where JAX
    has devices. JAX is of no more use in this process otherwise.
  """
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
