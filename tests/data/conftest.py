"""Fixtures shared by the tests of data."""

import resource

import pytest


@pytest.fixture
def file_limit():
  """Returns a function that limits files' bytes, as a full disk does."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  yield lambda size: resource.setrlimit(
    resource.RLIMIT_FSIZE, (size, before[1])
  )
  resource.setrlimit(resource.RLIMIT_FSIZE, before)
