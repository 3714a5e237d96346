"""SimpleNet in PyTorch, to measure this project against.

`make_step` and `Released` do what the released code does, written anew from its
description: the backbone in every step, patches unfolded, adapted features
formed; at prediction also features enlarged to the image's size for nothing.
`Lean` and a compiled step on cached features are what a good engineer would
make of it in PyTorch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from simplenet_jax.data import images
from tests.models import torch_resnet

DIM, HIDDEN, SIGMA = 1536, 1024, 4.0


class Head(nn.Module):
  """Adaptor and discriminator, as modules."""

  def __init__(self):
    super().__init__()
    self.adaptor = nn.Linear(DIM, DIM)
    self.first = nn.Linear(DIM, HIDDEN)
    self.norm = nn.BatchNorm1d(HIDDEN)
    self.tail = nn.Linear(HIDDEN, 1, bias=False)
    for layer in (self.adaptor, self.first, self.tail):
      nn.init.xavier_normal_(layer.weight)

  def forward(self, patches: torch.Tensor, noise: torch.Tensor):
    """Returns the loss of patches and counterfeits, each `[patches, DIM]`."""
    adapted = self.adaptor(patches)
    both = self.discriminate(torch.cat([adapted, adapted + noise]))
    normal, counterfeit = both.chunk(2)
    miss = functional.relu(0.5 - normal).mean()
    return miss + functional.relu(0.5 + counterfeit).mean()

  def discriminate(self, adapted: torch.Tensor) -> torch.Tensor:
    """Returns logits, `[patches, 1]`."""
    hidden = self.norm(self.first(adapted))
    return self.tail(functional.leaky_relu(hidden, 0.2))


def make_step(
  device: str, compiled: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
  """Returns a training step on patches `[patches, DIM]` with a fresh head."""
  head = Head().to(device)
  forward = torch.compile(head) if compiled else head
  others = [p for n, p in head.named_parameters() if 'adaptor' not in n]
  optimizers = (
    torch.optim.AdamW(head.adaptor.parameters(), lr=1e-4),
    torch.optim.Adam(others, lr=2e-4, weight_decay=1e-5),
  )

  def step(patches: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(patches.shape, device=device) * 0.015
    for optimizer in optimizers:
      optimizer.zero_grad()
    loss = forward(patches, noise)
    loss.backward()
    for optimizer in optimizers:
      optimizer.step()
    return loss.detach()

  return step


def aggregate(levels: Sequence[torch.Tensor]) -> torch.Tensor:
  """Maps levels `[batch, channels, h, w]` to patches `[batch * H * W, DIM]`."""
  height, width = levels[0].shape[2:]
  pooled = []
  for level in levels:
    batch, channels, h, w = level.shape
    patches = functional.unfold(level, 3, padding=1)
    patches = patches.reshape(batch, channels * 9, h, w)
    if (h, w) != (height, width):
      patches = _resize(patches, (height, width))
    rows = patches.movedim(1, -1).reshape(batch * height * width, 1, -1)
    pooled.append(functional.adaptive_avg_pool1d(rows, DIM))
  stacked = torch.cat(pooled, dim=1).flatten(1)
  return functional.adaptive_avg_pool1d(stacked[:, None], DIM)[:, 0]


class Features(nn.Module):
  """From normalised pixels `[batch, 3, h, w]` to patches, on random weights."""

  def __init__(self, backbone: str):
    super().__init__()
    fabricated = torch_resnet.fabricate(backbone)
    self.network: Any = torch_resnet.pad(fabricated, 'reflect')
    # Where layer2 and layer3 end: blocks are counted after the stem.
    depths = torch_resnet.SPECS[backbone][1]
    self.ends = (sum(depths[:2]), sum(depths[:3]))

  def levels(self, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Returns what leaves layer2 and layer3."""
    outputs = list(self.network.activations(pixels))
    return [outputs[end] for end in self.ends]

  @torch.no_grad()
  def forward(self, pixels: torch.Tensor) -> torch.Tensor:
    """Returns patch features, `[batch * H * W, DIM]`."""
    return aggregate(self.levels(pixels))


class Released(nn.Module):
  """The released path, from uint8 pixels to maps and scores on the host.

  The backbone's layer4 and classifier, which it runs too, are left out.
  """

  def __init__(self, backbone: str, side: int):
    super().__init__()
    self.side = side
    self.features: Any = Features(backbone)
    self.head: Any = Head().eval()

  def predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps pixels uint8 `[batch, side, side, 3]` to maps and scores."""
    # As the released code: PyTorch cannot resize what 64 images have at once.
    starts = range(0, len(pixels), 8)
    parts = [self._predict(pixels[start : start + 8]) for start in starts]
    maps, scores = zip(*parts, strict=True)
    return np.concatenate(maps), np.concatenate(scores)

  @torch.no_grad()
  def _predict(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    device = self.head.tail.weight.device
    x = torch.tensor(images.normalize(pixels)).movedim(-1, 1).to(device)
    levels = self.features.levels(x)
    adapted = self.head.adaptor(aggregate(levels))
    scores = -self.head.discriminate(adapted)
    grid, size = levels[0].shape[2:], (self.side, self.side)
    scores = scores.reshape(len(pixels), 1, *grid)
    _resize(adapted.reshape(len(pixels), *grid, -1).movedim(-1, 1), size)
    maps = _resize(scores, size)[:, 0].cpu().numpy()
    smooth = [ndimage.gaussian_filter(one, SIGMA) for one in maps]
    return np.stack(smooth), scores.amax((1, 2, 3)).cpu().numpy()


class Lean(nn.Module):
  """Stem to layer3, head and maps, all on the device."""

  def __init__(self, backbone: str, side: int):
    super().__init__()
    self.side = side
    self.features: Any = Features(backbone)
    head = self.head = Head().eval()
    with torch.no_grad():  # Adaptor and first layer are one matrix.
      bias = head.first.bias + head.first.weight @ head.adaptor.bias
      head.first.bias.copy_(bias)
      head.first.weight.copy_(head.first.weight @ head.adaptor.weight)
    bottleneck, _, width, _ = torch_resnet.SPECS[backbone]
    channels = width * (8 if bottleneck else 2)
    self.kernels = nn.ParameterList(map(_pooling, (channels, 2 * channels)))
    reach = int(4 * SIGMA)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / SIGMA) ** 2)
    self.kernel = nn.Buffer(kernel / kernel.sum())
    self.mean = nn.Buffer(torch.tensor(images.IMAGENET_MEAN)[:, None, None])
    self.std = nn.Buffer(torch.tensor(images.IMAGENET_STD)[:, None, None])

  def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps pixels uint8 `[batch, side, side, 3]` to maps and scores."""
    x = (pixels.movedim(-1, 1).float() / 255 - self.mean) / self.std
    x = x.to(self.head.first.weight.dtype, memory_format=torch.channels_last)
    pooled, levels = [], self.features.levels(x)
    for level, kernel in zip(levels, self.kernels, strict=True):
      groups = level.shape[1] // kernel.shape[1]
      pooled.append(functional.conv2d(level, kernel, padding=1, groups=groups))
    fine, coarse = pooled
    grid = fine.shape[2:]
    rows = torch.cat([fine, _resize(coarse, grid)], 1)
    rows = rows.movedim(1, -1).flatten(0, 2)
    scores = -self.head.discriminate(rows).float()
    scores = scores.reshape(len(pixels), 1, *grid)
    maps = _resize(scores, (self.side, self.side))
    # At the images' edges the difference to scipy's is of no concern here.
    maps = functional.pad(maps, (len(self.kernel) // 2,) * 4, mode='reflect')
    maps = functional.conv2d(maps, self.kernel[None, None, :, None])
    maps = functional.conv2d(maps, self.kernel[None, None, None, :])
    return maps[:, 0], scores.amax((1, 2, 3))


def _pooling(channels: int) -> torch.Tensor:
  """Returns both poolings of a level to half of `DIM`, as a grouped kernel.

  Each output averages as many consecutive entries (channel, row, column); that
  repeats itself after some channels and outputs.
  """
  groups = int(np.gcd(channels, DIM // 2))
  inputs, rows = channels // groups, DIM // 2 // groups
  kernel = functional.adaptive_avg_pool1d(torch.eye(9 * inputs)[None], rows)
  return kernel[0].T.reshape(rows, inputs, 3, 3).repeat(groups, 1, 1, 1)


def _resize(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
  options: Any = {'mode': 'bilinear', 'align_corners': False}
  return functional.interpolate(x, tuple(size), **options)


def compiled(
  backbone: str, side: int, device: str, dtype: torch.dtype
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
  """Returns `Lean`, compiled, from pixels to maps and scores on the host."""
  model: Any = Lean(backbone, side).to(device).eval()
  for part in (model.features, model.head, model.kernels):
    part.to(dtype, memory_format=torch.channels_last)
  options: Any = {'freezing': True, 'triton.cudagraphs': device != 'cpu'}
  run = torch.compile(model, options=options)

  @torch.no_grad()
  def predict(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    maps, scores = run(torch.from_numpy(pixels).to(device))
    return maps.cpu().numpy(), scores.cpu().numpy()

  return predict
