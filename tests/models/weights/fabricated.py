"""Files of weights as torchvision, timm and users have them, made up."""

import functools

import numpy as np
import safetensors.numpy
import torch

from tests.models import torch_resnet


@functools.cache
def _made(architecture, whole):
  return torch_resnet.tensors(torch_resnet.fabricate(architecture, whole))


def tensors(architecture, whole=False):
  """Random weights by name, stem to layer3; `whole` adds what is not built."""
  return dict(_made(architecture, whole))


def cut(tensors, *, after):
  """Leaves out the layers above a level, and the classifier."""
  above = tuple(f'layer{level}.' for level in range(after + 1, 5))
  return {n: v for n, v in tensors.items() if not n.startswith((*above, 'fc.'))}


def network(architecture, depths, classes=1000):
  """Zeros in the shapes of a whole network, that take no memory."""
  bottleneck, _, width, widening = torch_resnet.SPECS[architecture]
  shapes = {'conv1.weight': (width, 3, 7, 7), **_norm('bn1', width)}
  inputs = width
  for level, depth in enumerate(depths, start=1):
    planes = width * 2 ** (level - 1)
    outputs = planes * 4 if bottleneck else planes
    inner = planes * widening if bottleneck else planes
    for index in range(depth):
      block = f'layer{level}.{index}'
      sizes = [(inner, inputs, 1), (inner, inner, 3), (outputs, inner, 1)]
      if not bottleneck:
        sizes = [(outputs, inputs, 3), (outputs, outputs, 3)]
      for i, (after, before, size) in enumerate(sizes, start=1):
        shapes[f'{block}.conv{i}.weight'] = (after, before, size, size)
        shapes |= _norm(f'{block}.bn{i}', after)
      if index == 0 and (level > 1 or inputs != outputs):
        shapes[f'{block}.downsample.0.weight'] = (outputs, inputs, 1, 1)
        shapes |= _norm(f'{block}.downsample.1', outputs)
      inputs = outputs
  shapes |= {'fc.weight': (classes, inputs), 'fc.bias': (classes,)}
  zero = np.zeros((), np.float32)
  return {name: np.broadcast_to(zero, shape) for name, shape in shapes.items()}


def _norm(name, channels):
  leaves = ('weight', 'bias', 'running_mean', 'running_var')
  return {f'{name}.{leaf}': (channels,) for leaf in leaves}


def write(path, tensors):
  """Writes tensors as the suffix says."""
  if path.suffix == '.safetensors':
    safetensors.numpy.save_file(tensors, path)
  else:
    torch.save({k: torch.tensor(v) for k, v in tensors.items()}, path)
  return path
