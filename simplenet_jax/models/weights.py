"""Pretrained backbone weights: found, read, checked and renamed.

The files carry torchvision's tensor names, as timm's ResNets do, and kernels
`[outputs, inputs, height, width]`; Flax has `[height, width, inputs, outputs]`.
Loading is strict: every tensor of the network is filled, and every tensor of
the file is used or known to belong to a part that is not built.
"""

import dataclasses
import hashlib
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import nnx
from huggingface_hub.errors import LocalEntryNotFoundError

from simplenet_jax.models import resnet, torch_file

# The noise level of the paper (sigma = .015) belongs to torchvision's first
# ImageNet weights, which are these; other weights have another feature scale.
DEFAULT_WEIGHTS = {
  'resnet18': 'timm/resnet18.tv_in1k',
  'resnet50': 'timm/resnet50.tv_in1k',
  'resnet101': 'timm/resnet101.tv_in1k',
  'wide_resnet50_2': 'timm/wide_resnet50_2.tv_in1k',
  'demo_resnet': 'demo',
}

_HUB_FILE = 'model.safetensors'
_SUFFIXES = ('.safetensors', '.pth', '.pt')
_FLAG = '--config.backbone.weights'
_OIHW_TO_HWIO = (2, 3, 1, 0)
_HWIO_TO_OIHW = (3, 2, 0, 1)
_LEAVES = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}
_SHOWN = 3  # names of each kind in an error message


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights that fit a network, and where they came from.

  Attributes:
    state: For `resnet.apply`; float32 NumPy leaves, on no device yet.
    path: The file that was read.
    sha256: The file's checksum, hexadecimal.
    name: The source as it was asked for.
  """

  state: nnx.State
  path: Path
  sha256: str
  name: str


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
  path = _locate(source)
  state = from_torch_names(_read(path), architecture, levels, str(path))
  with path.open('rb') as file:
    sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
  return Weights(state, path, sha256, source)


def from_torch_names(
  tensors: Mapping[str, np.ndarray],
  architecture: str,
  levels: Sequence[int],
  origin: str = 'the given tensors',
) -> nnx.State:
  """Turns tensors with torchvision's names into a backbone's state.

  Args:
    tensors: Arrays of any floating type; kernels
      `[outputs, inputs, height, width]`.
    architecture: A key of `resnet.ARCHITECTURES`.
    levels: The levels that the backbone returns.
    origin: Where the tensors come from, for error messages.

  Returns:
    A state for `resnet.apply`, with float32 NumPy leaves.

  Raises:
    ValueError: If a tensor is missing, unexpected, of another shape, of another
      kind than floating, or not finite: all such tensors in one message.
  """
  flat = nnx.to_flat_state(resnet.abstract(architecture, levels)[1])
  shapes = {_torch_name(path): _torch_shape(leaf.shape) for path, leaf in flat}

  actual = _recognise(tensors)
  if actual and architecture not in actual:
    raise ValueError(
      f'{origin} is a {" or ".join(actual)}, expected {architecture}; set '
      f'--config.backbone.name or {_FLAG}'
    )
  if problems := _problems(tensors, shapes, max(levels)):
    fit = f'{origin} does not fit {architecture} with levels {tuple(levels)}:'
    raise ValueError(f'{fit} {"; ".join(problems)}')

  leaves = []
  for path, leaf in flat:
    value = np.asarray(tensors[_torch_name(path)], np.float32)
    if value.ndim == 4:
      value = np.ascontiguousarray(value.transpose(_OIHW_TO_HWIO))
    leaves.append((path, leaf.replace(value)))
  return nnx.from_flat_state(leaves)


def to_torch_names(state: nnx.State) -> dict[str, np.ndarray]:
  """Turns a backbone's state into tensors with torchvision's names.

  Args:
    state: As from `from_torch_names`, whose exact inverse this is.

  Returns:
    NumPy arrays in the state's type, kernels
    `[outputs, inputs, height, width]`.
  """
  tensors = {}
  for path, leaf in nnx.to_flat_state(state):
    value = np.asarray(leaf.get_value())
    if value.ndim == 4:
      value = np.ascontiguousarray(value.transpose(_HWIO_TO_OIHW))
    tensors[_torch_name(path)] = value
  return tensors


def _torch_name(path: tuple[Any, ...]) -> str:
  """Returns torchvision's name for the leaf at a path of the Flax state."""
  *module, leaf = path
  match module:
    case ['conv1' | 'bn1' as stem]:
      prefix = stem
    case ['layers', int(level), int(block), 'convs' | 'bns' as kind, int(i)]:
      prefix = f'layer{level + 1}.{block}.{kind[:-1]}{i + 1}'
    case ['layers', int(level), int(block), 'downsample', 'conv']:
      prefix = f'layer{level + 1}.{block}.downsample.0'
    case ['layers', int(level), int(block), 'downsample', 'bn']:
      prefix = f'layer{level + 1}.{block}.downsample.1'
    case _:
      raise AssertionError(f'no torch name for {path}')
  return f'{prefix}.{_LEAVES[leaf]}'


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  axes = _HWIO_TO_OIHW if len(shape) == 4 else range(len(shape))
  return tuple(shape[axis] for axis in axes)


def _recognise(tensors: Mapping[str, np.ndarray]) -> list[str]:
  """Returns the architectures that the tensors can belong to, maybe none."""
  stem = tensors.get('conv1.weight', np.empty(0)).shape[:1]
  inner = tensors.get('layer1.0.conv1.weight', np.empty(0)).shape[:1]
  blocks = set(re.findall(r'layer([123])\.(\d+)\.conv1', '\n'.join(tensors)))
  depths = [sum(level == str(i) for level, _ in blocks) for i in (1, 2, 3)]
  return [
    name
    for name, spec in resnet.ARCHITECTURES.items()
    if spec.bottleneck == ('layer1.0.conv3.weight' in tensors)
    and (spec.width,) == stem
    and (spec.width * spec.inner_factor,) == inner
    # A file may end with the last layer that its user needs.
    and all(n in (0, of) for n, of in zip(depths, spec.depths, strict=True))
  ]


def _problems(
  tensors: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
  last_level: int,
) -> list[str]:
  """Describes, a line for each kind, how tensors differ from what is needed."""
  unbuilt = rf'layer[{last_level + 1}-4]\.|fc\.|.*\.num_batches_tracked$'
  problems = {
    'missing': [name for name in shapes if name not in tensors],
    'unexpected': [
      n for n in tensors if n not in shapes and not re.match(unbuilt, n)
    ],
    'wrong shape': [],
    'not floating point': [],
    'not finite in float32': [],
  }
  for name in shapes.keys() & tensors.keys():
    value, shape = tensors[name], shapes[name]
    if value.shape != shape:
      found = f'{name} (found {list(value.shape)}, expected {list(shape)})'
      problems['wrong shape'].append(found)
    elif not jnp.issubdtype(value.dtype, jnp.floating):
      problems['not floating point'].append(f'{name} ({value.dtype})')
    else:
      with np.errstate(over='ignore'):
        finite = np.isfinite(np.asarray(value, np.float32)).all()
      if not finite:
        problems['not finite in float32'].append(name)
  return [_summary(kind, names) for kind, names in problems.items() if names]


def _summary(kind: str, names: Sequence[str]) -> str:
  rest = len(names) - _SHOWN
  more = f' and {rest} more' if rest > 0 else ''
  return f'{kind} ({len(names)}): {", ".join(sorted(names)[:_SHOWN])}{more}'


def _locate(source: str) -> Path:
  """Returns the file that `source` names, downloading it if need be."""
  if source == 'demo':
    assets = importlib.resources.files('simplenet_jax') / 'assets'
    return Path(str(assets / 'demo_resnet.safetensors'))
  path = Path(source).expanduser()
  if source and (path.exists() or path.suffix in _SUFFIXES):
    return path
  if re.fullmatch(r'[\w.-]+/[\w.-]+', source):
    return _download(source)
  raise ValueError(
    f'{_FLAG} is {source!r}, found no such file; give a file '
    f'({", ".join(_SUFFIXES)}), demo, or a Hugging Face name (owner/name)'
  )


def _download(repository: str) -> Path:
  try:
    return Path(huggingface_hub.hf_hub_download(repository, _HUB_FILE))
  # The kinds of errors depend on the HTTP library that the client is built on.
  except Exception as error:
    # 'Not in the cache either' hides what went wrong with the network.
    uncached = isinstance(error, LocalEntryNotFoundError)
    cause = (uncached and error.__cause__) or error
    raise FileNotFoundError(
      f'{repository}: cannot download {_HUB_FILE} from '
      f'{huggingface_hub.constants.ENDPOINT} ({_brief(cause)}); get the file '
      f'elsewhere and give {_FLAG}=PATH'
    ) from error


def _read(path: Path) -> dict[str, np.ndarray]:
  """Reads all tensors of a file, in the types that they are stored in."""
  if path.suffix not in _SUFFIXES or path.is_dir():
    raise ValueError(f'{path}: expected a file out of {", ".join(_SUFFIXES)}')
  if not path.exists():
    raise FileNotFoundError(f'{path}: no such file; check {_FLAG}')
  try:
    if path.suffix != '.safetensors':
      tensors = torch_file.read(path)
      tensors = tensors.get('state_dict', tensors)
      if not all(isinstance(value, np.ndarray) for value in tensors.values()):
        raise TypeError('holds other things than tensors')
      return tensors
    with safetensors.safe_open(path, 'numpy') as file:
      return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except ImportError as error:
    raise ValueError(
      f'{path}: needs PyTorch to be read; install torch, or use .safetensors'
    ) from error
  # A damaged file can fail anywhere in torch's reader.
  except Exception as error:
    raise ValueError(
      f'{path}: damaged, or not a file of named tensors ({_brief(error)})'
    ) from error


def _brief(error: BaseException) -> str:
  lines = str(error).strip().splitlines() or ['no details']
  return f'{type(error).__name__}: {lines[0]}'
