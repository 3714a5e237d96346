"""Pretrained backbone weights: found, read, checked and renamed.

The files carry torchvision's tensor names, as timm's ResNets do, and kernels
`[outputs, inputs, height, width]`; Flax has `[height, width, inputs, outputs]`.
Loading is strict: every tensor of the network is filled, and every tensor of
the file is used or known to belong to a part that is not built.

`python -m simplenet_jax.models.weights --weights=FILE` tells what a file is.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from flax import nnx

from simplenet_jax.models.weights import files, variants
from simplenet_jax.models.weights.names import from_torch_names, to_torch_names

__all__ = (
  'DEFAULT_WEIGHTS',
  'FLAG',
  'Weights',
  'from_torch_names',
  'load',
  'to_torch_names',
)

# The noise level of the paper (sigma = .015) belongs to torchvision's first
# ImageNet weights, which are these; other weights have another feature scale.
DEFAULT_WEIGHTS = {
  'resnet18': 'timm/resnet18.tv_in1k',
  'resnet50': 'timm/resnet50.tv_in1k',
  'resnet101': 'timm/resnet101.tv_in1k',
  'wide_resnet50_2': 'timm/wide_resnet50_2.tv_in1k',
  'demo_resnet': 'demo',
}

FLAG = '--config.backbone.weights'  # Of runs.


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights that fit a network, and where they came from.

  Attributes:
    state: For `resnet.apply`; float32 NumPy leaves, on no device yet.
    path: The file that was read.
    sha256: The file's checksum, hexadecimal.
    name: The source as it was asked for.
    variant: Which training they come from, as far as it is known.
    warnings: Where the method's noise may not fit them.
  """

  state: nnx.State
  path: Path
  sha256: str
  name: str
  variant: variants.Variant
  warnings: tuple[str, ...] = ()


def load(source: str, architecture: str, levels: Sequence[int]) -> Weights:
  """Loads pretrained weights into a backbone's state.

  Args:
    source: A `.safetensors` file; a `.pth` or `.pt` file (needs PyTorch);
      `demo`, the weights that come with this package; or a Hugging Face name
      such as `timm/wide_resnet50_2.tv_in1k`, downloaded once to the cache of
      `huggingface_hub` (which obeys `HF_ENDPOINT` and `HF_HUB_OFFLINE`).
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: The levels that the backbone returns; layers above the highest are
      left out.

  Returns:
    The weights. Numbers of any floating type become float32.

  Raises:
    FileNotFoundError: If there is no such file, or it cannot be downloaded.
    ValueError: If the file cannot be read or does not fit the network.
  """
  path = files.locate(source, FLAG)
  tensors, sha256 = files.read(path)
  state = from_torch_names(tensors, architecture, levels, str(path))
  variant = variants.identify(source, architecture, sha256, tensors)
  return Weights(state, path, sha256, source, variant)
