"""Fixtures shared by all tests."""

import os
import pathlib
import resource

import hypothesis
import jax
import pytest
from safetensors.numpy import save_file

from tests.models import fabricated

# An example that takes long on a busy machine is no failure.
hypothesis.settings.register_profile('patient', deadline=None)
hypothesis.settings.load_profile('patient')

# For tests of several devices; others use the first.
jax.config.update('jax_num_cpu_devices', 8)

# Recorded values, real weights and real images that tests compare with. They
# are not part of the project; tests that need them skip where they are absent.
SHARED = pathlib.Path(
  os.environ.get(
    'SIMPLENET_SHARED', pathlib.Path(__file__).parents[1] / '../shared'
  )
).resolve()


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(tmp_path_factory):
  """Lets tests, and the commands they start, share what they compile."""
  folder = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    folder = folder.parent  # Each worker has its own folder within it.
  folder /= 'compiled'
  os.environ |= {
    'JAX_COMPILATION_CACHE_DIR': str(folder),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


@pytest.fixture(scope='session')
def backbone(tmp_path_factory):
  """Returns a file of a ResNet18 with random weights."""
  path = tmp_path_factory.mktemp('weights') / 'random.safetensors'
  save_file(fabricated.untrained('resnet18'), path)
  return path


@pytest.fixture(scope='session')
def shared():
  """Returns a function that finds a shared file, or skips and names it."""

  def find(name: str) -> pathlib.Path:
    path = SHARED / name
    if not path.exists():
      pytest.skip(f'needs shared/{name} (set SIMPLENET_SHARED)')
    return path

  return find


@pytest.fixture
def file_limit():
  """Returns a function that limits files' bytes, as a full disk does."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda size: resource.setrlimit(
    resource.RLIMIT_FSIZE, (size, before[1])
  )
  resource.setrlimit(resource.RLIMIT_FSIZE, before)
