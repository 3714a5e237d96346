"""Fixtures of the weights' tests."""

import pytest

from tests.models.weights import fabricated


@pytest.fixture
def demo():
  """Fresh tensors of a whole demo network: layer4, fc, counters and all."""
  return fabricated.tensors('demo_resnet', whole=True)


@pytest.fixture
def write(tmp_path):
  def write(tensors, name='net.safetensors'):
    return fabricated.write(tmp_path / name, tensors)

  return write
