"""The released code's start, computed and as torch passes it."""

import numpy as np
import pytest
import torch

from simplenet_jax.models import probe, resnet, weights
from tests.models import torch_resnet


@pytest.mark.parametrize('architecture', ['demo_resnet', 'resnet50'])
def test_probe_agrees_with_torch_in_train_mode(architecture):
  model = torch_resnet.pad(torch_resnet.fabricate(architecture), 'reflect')
  tensors = torch_resnet.tensors(model)
  before = {name: value.copy() for name, value in tensors.items()}
  graph, _ = resnet.abstract(architecture, (1, 2, 3), 'reflect')
  state = weights.from_torch_names(before, architecture, (1, 2, 3))
  probed = weights.to_torch_names(probe.probe(graph, state))
  unchanged = weights.to_torch_names(state)

  with torch.no_grad():
    list(model.train().activations(torch.ones(1, 3, 65, 64)))
  for name, value in probed.items():
    # torch divides rounding errors by the square root of epsilon, layer by
    # layer; the statistics themselves move by tenths.
    np.testing.assert_allclose(value, tensors[name], atol=2e-3, err_msg=name)
    np.testing.assert_array_equal(unchanged[name], before[name])
  moved = [n for n, value in probed.items() if (value != before[n]).any()]
  assert moved == [n for n in probed if '.running_' in n]
