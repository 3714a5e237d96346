"""A ResNet in torch with torchvision's names: the judge of ours."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

# bottleneck, blocks of layer1 to layer3, stem channels, bottleneck's widening.
# Written out a second time on purpose: a slip in the package must show.
SPECS = {
  'resnet18': (False, (2, 2, 2), 64, 1),
  'resnet50': (True, (3, 4, 6), 64, 1),
  'resnet101': (True, (3, 4, 23), 64, 1),
  'wide_resnet50_2': (True, (3, 4, 6), 64, 2),
}


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
  padding = (size - 1) // 2
  return nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)


def pad(model: nn.Module, mode: str) -> nn.Module:
  """Sets what a model's convolutions see beyond the border."""
  for module in model.modules():
    if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
      # torch precomputes the amounts for all modes but 'zeros'.
      top, left = module.padding
      module._reversed_padding_repeated_twice = [left, left, top, top]
      module.padding_mode = mode
  return model


class _Block(nn.Module):
  def __init__(self, inputs, planes, stride, bottleneck, widening):
    super().__init__()
    if bottleneck:
      inner, outputs = planes * widening, planes * 4
      self.conv1 = _conv(inputs, inner, 1)
      self.conv2 = _conv(inner, inner, 3, stride)
      self.conv3 = _conv(inner, outputs, 1)
      self.bn3 = nn.BatchNorm2d(outputs)
    else:
      inner = outputs = planes
      self.conv1 = _conv(inputs, inner, 3, stride)
      self.conv2 = _conv(inner, outputs, 3)
    self.bn1 = nn.BatchNorm2d(inner)
    self.bn2 = nn.BatchNorm2d(inner)
    self.downsample = None
    if stride != 1 or inputs != outputs:
      self.downsample = nn.Sequential(
        _conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
      )

  def forward(self, x):
    shortcut = x if self.downsample is None else self.downsample(x)
    x = self.bn1(self.conv1(x))
    x = self.bn2(self.conv2(functional.relu(x)))
    if hasattr(self, 'conv3'):
      x = self.bn3(self.conv3(functional.relu(x)))
    return functional.relu(x + shortcut)


class TorchResNet(nn.Module):
  """Stem to layer3; `whole` adds a token layer4 and classifier to the names."""

  def __init__(self, architecture: str, whole: bool = False):
    super().__init__()
    bottleneck, depths, width, widening = SPECS[architecture]
    self.conv1 = _conv(3, width, 7, 2)
    self.bn1 = nn.BatchNorm2d(width)
    inputs = width
    for level, depth in enumerate(depths, start=1):
      planes = width * 2 ** (level - 1)
      blocks = []
      for index in range(depth):
        stride = 2 if level > 1 and index == 0 else 1
        blocks.append(_Block(inputs, planes, stride, bottleneck, widening))
        inputs = planes * 4 if bottleneck else planes
      setattr(self, f'layer{level}', nn.Sequential(*blocks))
    if whole:
      self.layer4 = nn.Sequential(_Block(inputs, 8, 2, bottleneck, widening))
      self.fc = nn.Linear(8, 10)

  def activations(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yields what leaves the stem and every block, `[batch, c, h, w]`."""
    x = functional.relu(self.bn1(self.conv1(images)))
    x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    yield x
    for layer in ('layer1', 'layer2', 'layer3'):
      for block in self.get_submodule(layer).children():
        x = block(x)
        yield x


def fabricate(architecture: str, whole: bool = False) -> TorchResNet:
  """Returns an eval-mode network, every parameter and statistic random."""
  torch.manual_seed(0)
  model = TorchResNet(architecture, whole).eval()
  for name, module in model.named_modules():
    if isinstance(module, nn.BatchNorm2d):
      # The last norm of a block is small, or else depth doubles the variance.
      bottleneck = SPECS[architecture][0]
      last = name.endswith('.bn3' if bottleneck else '.bn2')
      nn.init.uniform_(module.weight, 0.5, 1.5)
      module.weight.data *= 0.3 if last else 1.0
      nn.init.normal_(module.bias, 0.0, 0.2)
      module.get_buffer('running_mean').normal_(0.0, 0.2)
      module.get_buffer('running_var').uniform_(0.5, 1.5)
    elif isinstance(module, nn.Conv2d):
      fan_in = module.weight[0].numel()
      nn.init.normal_(module.weight, 0.0, (2.0 / fan_in) ** 0.5)
  return model


def tensors(model: nn.Module) -> dict:
  """Returns a model's state dict as NumPy arrays."""
  return {name: value.numpy() for name, value in model.state_dict().items()}
