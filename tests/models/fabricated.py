"""Files of weights as torchvision, timm and users have them, made up."""

import functools

import numpy as np
import safetensors.numpy

from simplenet_jax.models import backbone


@functools.cache
def _made(architecture, whole):
  from tests.models import torch_resnet  # torch takes seconds to import.

  return torch_resnet.tensors(torch_resnet.fabricate(architecture, whole))


def tensors(architecture, whole=False):
  """Random weights by name, stem to layer3; `whole` adds what is not built."""
  return dict(_made(architecture, whole))


def untrained(architecture, levels=(1, 2, 3)):
  """Weights as an untrained network of torch has them; norms change nothing."""
  rng = np.random.default_rng(0)
  found = {}
  spec = backbone.ARCHITECTURES[architecture]
  for layer, _, (size, _, inputs, outputs) in spec.layers(levels):
    kernel, norm = spec.torch_names(layer)
    deviation = (2 / (size * size * inputs)) ** 0.5
    shape = (outputs, inputs, size, size)
    found[kernel] = rng.normal(0, deviation, shape).astype(np.float32)
    for leaf, value in zip(backbone.NORM_LEAVES, (1, 0, 0, 1), strict=True):
      found[f'{norm}.{leaf}'] = np.full(outputs, value, np.float32)
  return found


def write(path, tensors):
  """Writes tensors as the suffix says."""
  if path.suffix == '.safetensors':
    safetensors.numpy.save_file(tensors, path)
  else:
    import torch

    torch.save({k: torch.tensor(v) for k, v in tensors.items()}, path)
  return path
