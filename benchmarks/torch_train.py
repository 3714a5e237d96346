"""SimpleNet's training in PyTorch, to measure this project against.

`released` does what the released code does, written anew from its description:
the backbone in every step, patches unfolded, adapted features formed. `lean` is
what a good engineer would make of it in PyTorch: features cached once, the step
compiled. Both stop the backbone after layer3; the released code goes on, which
only adds to its time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tests.models import torch_resnet

DIM, HIDDEN = 1536, 1024


class Head(nn.Module):
  """Adaptor and discriminator, as modules."""

  def __init__(self, dim: int = DIM, hidden: int = HIDDEN):
    super().__init__()
    self.adaptor = nn.Linear(dim, dim)
    self.first = nn.Linear(dim, hidden)
    self.norm = nn.BatchNorm1d(hidden)
    self.tail = nn.Linear(hidden, 1, bias=False)
    for layer in (self.adaptor, self.first, self.tail):
      nn.init.xavier_normal_(layer.weight)

  def forward(self, patches: torch.Tensor, noise: torch.Tensor):
    """Returns the loss of patches and counterfeits, each `[patches, dim]`."""
    adapted = self.adaptor(patches)
    both = torch.cat([adapted, adapted + noise])
    hidden = functional.leaky_relu(self.norm(self.first(both)), 0.2)
    normal, counterfeit = self.tail(hidden).chunk(2)
    return (0.5 - normal).clamp(min=0).mean() + (0.5 + counterfeit).clamp(
      min=0
    ).mean()


def aggregate(
  levels: Sequence[torch.Tensor], dim: int = DIM, size: int = 3
) -> torch.Tensor:
  """Returns patch features as the released code makes them.

  Args:
    levels: `[batch, channels, h, w]`, the finest first.
    dim: Of the features.
    size: Of a patch.

  Returns:
    `[batch * H * W, dim]`.
  """
  height, width = levels[0].shape[2:]
  pooled = []
  for level in levels:
    batch, channels, h, w = level.shape
    patches = functional.unfold(level, size, padding=size // 2)
    patches = patches.reshape(batch, channels * size**2, h, w)
    if (h, w) != (height, width):
      patches = functional.interpolate(
        patches, (height, width), mode='bilinear', align_corners=False
      )
    rows = patches.movedim(1, -1).reshape(batch * height * width, 1, -1)
    pooled.append(functional.adaptive_avg_pool1d(rows, dim))
  stacked = torch.cat(pooled, dim=1).flatten(1)
  return functional.adaptive_avg_pool1d(stacked[:, None], dim)[:, 0]


class Features(nn.Module):
  """From normalised pixels `[batch, 3, h, w]` to patches, on random weights."""

  def __init__(self, backbone: str):
    super().__init__()
    self.network: Any = torch_resnet.pad(
      torch_resnet.TorchResNet(backbone).eval(), 'reflect'
    )
    # Where layer2 and layer3 end: blocks are counted after the stem.
    depths = torch_resnet.SPECS[backbone][1]
    self.ends = (sum(depths[:2]), sum(depths[:3]))

  @torch.no_grad()
  def forward(self, pixels: torch.Tensor) -> torch.Tensor:
    """Returns patch features, `[batch * H * W, DIM]`."""
    outputs = list(self.network.activations(pixels))
    return aggregate([outputs[end] for end in self.ends])


def make_step(
  device: str, compiled: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
  """Returns a training step on patches `[patches, DIM]` with a fresh head."""
  head = Head().to(device)
  forward = torch.compile(head) if compiled else head
  adaptor = torch.optim.AdamW(head.adaptor.parameters(), lr=1e-4)
  others = [p for n, p in head.named_parameters() if 'adaptor' not in n]
  discriminator = torch.optim.Adam(others, lr=2e-4, weight_decay=1e-5)

  def step(patches: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(patches.shape, device=device) * 0.015
    adaptor.zero_grad()
    discriminator.zero_grad()
    loss = forward(patches, noise)
    loss.backward()
    adaptor.step()
    discriminator.step()
    return loss.detach()

  return step


def finish(device: str) -> None:
  """Waits until a device is done."""
  if device != 'cpu':
    torch.cuda.synchronize()
