"""SimpleNet's prediction in PyTorch, to measure this project against.

`Released` does what the released code's `_predict` does, written anew from its
description: the whole backbone with its last layer and classifier, patches
unfolded, adapted features formed and then upsampled to the image's size for
nothing. `Lean` is what a good engineer would make of it: the backbone up to
layer3, all on the device, compiled.
"""

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from benchmarks import torch_train
from simplenet_jax.data import images
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

  @torch.no_grad()
  def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps pixels uint8 `[batch, side, side, 3]` to maps and scores."""
    device = self.fc.weight.device
    x = torch.tensor(images.normalize(pixels)).movedim(-1, 1).to(device)
    outputs = list(self.network.activations(x))
    self.fc(self.layer4(outputs[-1]).mean((2, 3)))
    patches = torch_train.aggregate([outputs[end] for end in self.ends])
    adapted = self.head.adaptor(patches)
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
    self.features = torch_train.Features(backbone)
    self.head: Any = torch_train.Head().eval()
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
    weight = self.head.adaptor.weight
    x = (pixels.movedim(-1, 1).float() / 255 - self.mean) / self.std
    x = x.to(weight.dtype, memory_format=torch.channels_last)
    patches = self.features(x)
    scores = -_discriminate(self.head, self.head.adaptor(patches)).float()
    side = self.side // 8
    scores = scores.reshape(len(pixels), 1, side, side)
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
    for part in (model.features, model.head):
      part.to(dtype, memory_format=torch.channels_last)
    self.device = device
    self.run = torch.compile(model, options={'freezing': True})

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
