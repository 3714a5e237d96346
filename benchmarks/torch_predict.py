"""SimpleNet's prediction in PyTorch, to measure this project against.

`Released` does what the released code's `_predict` does, written anew from its
description: the whole backbone with its last layer and classifier, patches
unfolded, adapted features formed and then upsampled to the image's size for
nothing. `Lean` is what a good engineer would make of it: the backbone up to
layer3, pooling as grouped convolutions, adaptor and first layer as one matrix,
all on the device, compiled with its BatchNorms folded.
"""

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from benchmarks import torch_train
from simplenet_jax.data import images
from simplenet_jax.models import patches, resnet
from tests.models import torch_resnet

SIGMA = 4.0


class Released(nn.Module):
  """The released path, from uint8 pixels to maps and scores on the host."""

  def __init__(self, backbone: str, side: int):
    super().__init__()
    self.side = side
    self.network: Any = torch_resnet.pad(
      torch_resnet.TorchResNet(backbone).eval(), 'reflect'
    )
    self.head: Any = torch_train.Head().eval()
    bottleneck, depths, width, widening = torch_resnet.SPECS[backbone]
    self.ends = (sum(depths[:2]), sum(depths[:3]))
    inputs, planes = width * 4 * (4 if bottleneck else 1), width * 8
    outputs = planes * (4 if bottleneck else 1)
    blocks = 3 if bottleneck else 2
    block = type(self.network.layer3[0])
    self.layer4 = nn.Sequential(
      *(
        block(
          inputs if i == 0 else outputs,
          planes,
          2 if i == 0 else 1,
          bottleneck,
          widening,
        )
        for i in range(blocks)
      )
    ).eval()
    self.fc = nn.Linear(outputs, 1000)

  def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps pixels uint8 `[batch, side, side, 3]` to maps and scores.

    Batches of 8 at most, as the released code has them: of 64 images it would
    resize more numbers than PyTorch counts.
    """
    starts = range(0, len(pixels), 8)
    parts = [self._predict(pixels[start : start + 8]) for start in starts]
    maps, scores = zip(*parts, strict=True)
    return np.concatenate(maps), np.concatenate(scores)

  @torch.no_grad()
  def _predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    device = self.fc.weight.device
    x = torch.tensor(images.normalize(pixels)).movedim(-1, 1).to(device)
    outputs = list(self.network.activations(x))
    self.fc(self.layer4(outputs[-1]).mean((2, 3)))
    rows = torch_train.aggregate([outputs[end] for end in self.ends])
    adapted = self.head.adaptor(rows)
    scores = -_discriminate(self.head, adapted)
    grid = outputs[self.ends[0]].shape[2:]
    scores = scores.reshape(len(pixels), 1, *grid)
    size = (self.side, self.side)
    maps = functional.interpolate(
      scores, size, mode='bilinear', align_corners=False
    )
    features = adapted.reshape(len(pixels), *grid, -1).movedim(-1, 1)
    functional.interpolate(features, size, mode='bilinear', align_corners=False)
    smooth = [
      ndimage.gaussian_filter(one, SIGMA) for one in maps[:, 0].cpu().numpy()
    ]
    return np.stack(smooth), scores.amax((1, 2, 3)).cpu().numpy()


class Lean(nn.Module):
  """Stem to layer3, head and maps, all on the device."""

  def __init__(self, backbone: str, side: int):
    super().__init__()
    self.side = side
    self.features: Any = torch_train.Features(backbone)
    head = torch_train.Head().eval()
    first = nn.Linear(torch_train.DIM, torch_train.HIDDEN)
    with torch.no_grad():
      first.weight.copy_(head.first.weight @ head.adaptor.weight)
      first.bias.copy_(head.first.bias + head.first.weight @ head.adaptor.bias)
    self.head: Any = nn.ModuleDict(
      {'first': first, 'norm': head.norm, 'tail': head.tail}
    )
    spec = resnet.ARCHITECTURES[backbone]
    self.pooling = patches.pooling_for(
      (spec.channels(2), spec.channels(3)), 3, torch_train.DIM, torch_train.DIM
    )
    self.kernels = nn.ParameterList(
      torch.tensor(np.tile(kernel, (level.groups, 1, 1, 1)))
      for level, kernel in (
        (level, np.moveaxis(level.block, (3, 0), (0, 1)).astype(np.float32))
        for level in self.pooling
      )
    )
    reach = int(4 * SIGMA)
    grid = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (grid / SIGMA) ** 2)
    self.kernel: Any
    self.register_buffer('kernel', kernel / kernel.sum())
    mean, std = (
      torch.tensor(v) for v in (images.IMAGENET_MEAN, images.IMAGENET_STD)
    )
    self.mean: Any
    self.std: Any
    self.register_buffer('mean', mean[:, None, None])
    self.register_buffer('std', std[:, None, None])

  def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps pixels uint8 `[batch, side, side, 3]` to maps and scores."""
    weight = self.head.first.weight
    x = (pixels.movedim(-1, 1).float() / 255 - self.mean) / self.std
    x = x.to(weight.dtype, memory_format=torch.channels_last)
    outputs = list(self.features.network.activations(x))
    fine, coarse = (
      functional.conv2d(outputs[end], kernel, padding=1, groups=level.groups)
      for end, kernel, level in zip(
        self.features.ends, self.kernels, self.pooling, strict=True
      )
    )
    grid = fine.shape[2:]
    coarse = functional.interpolate(
      coarse, grid, mode='bilinear', align_corners=False
    )
    rows = torch.cat([fine, coarse], 1).movedim(1, -1).flatten(0, 2)
    scores = -_discriminate(self.head, rows).float()
    scores = scores.reshape(len(pixels), 1, *grid)
    maps = functional.interpolate(
      scores, (self.side, self.side), mode='bilinear', align_corners=False
    )
    reach = len(self.kernel) // 2
    # Of the images' edges the difference to scipy's is of no concern here.
    maps = functional.pad(maps, (reach,) * 4, mode='reflect')
    maps = functional.conv2d(maps, self.kernel[None, None, :, None])
    maps = functional.conv2d(maps, self.kernel[None, None, None, :])
    return maps[:, 0], scores.amax((1, 2, 3))


def _discriminate(head: Any, adapted: torch.Tensor) -> torch.Tensor:
  hidden = head.norm(head.first(adapted))
  return head.tail(functional.leaky_relu(hidden, 0.2))[:, 0]


class Compiled:
  """`Lean`, compiled: to be called on the device or from host to host."""

  def __init__(self, backbone: str, side: int, device: str, dtype: torch.dtype):
    model: Any = Lean(backbone, side).to(device).eval()
    for part in (model.features, model.head, model.kernels):
      part.to(dtype, memory_format=torch.channels_last)
    self.device = device
    options: Any = {'freezing': True, 'triton.cudagraphs': device != 'cpu'}
    self.run = torch.compile(model, options=options)

  @torch.no_grad()
  def on_device(self, pixels: torch.Tensor) -> None:
    """Runs pixels that are on the device and waits."""
    self.run(pixels)
    torch_train.finish(self.device)

  @torch.no_grad()
  def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps pixels on the host to maps and scores on the host."""
    maps, scores = self.run(torch.from_numpy(pixels).to(self.device))
    return maps.cpu().numpy(), scores.cpu().numpy()
