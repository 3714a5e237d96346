"""A detector in one file: safetensors, with its card in the header.

Nothing in such a file is executed when it is read.
"""

import dataclasses
import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from simplenet_jax.detection.card import Card as BaseCard
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.files import atomic_write, write_arrays
from simplenet_jax.models import backbone
from simplenet_jax.models.simplenet import Network

SUFFIX = '.safetensors'
_CARD, _DIGEST = 'detector', 'sha256'
_COMPUTED = ('head.', 'nearest.')  # What names of weights begin with.
_ORIGIN = 'a run leaves them in WORKDIR/detectors'


@dataclasses.dataclass(frozen=True)
class Card(BaseCard):
  """The card of a detector with its weights."""

  network: Network

  def check(self) -> None:
    """Raises a ValueError for values with which nothing can be computed."""
    super().check()
    network = self.network
    counts = network.pretrain_dim, network.target_dim, self.heads
    if not (
      network.architecture in backbone.ARCHITECTURES
      and network.padding in backbone.PADDINGS
      and network.levels
      and list(network.levels) == sorted({*backbone.LEVELS} & {*network.levels})
      and 0 < network.patch_size < 2**16
      and all(0 <= count < 2**16 for count in counts)
      and 0 <= self.nearest <= 2**20
      and (self.heads or self.nearest)
      and 0 <= network.smoothing < 1e3
      and network.score in ('patch', 'map')
      and self.thresholds.precision in (None, *PRECISIONS)
    ):
      raise ValueError('makes no sense')


def save(path: Path, card: Card, weights: Mapping[str, np.ndarray]) -> None:
  """Writes a detector; appends `.safetensors` if missing."""
  text = card.to_json()
  Card.from_json(text)  # Raises where values make no sense.
  metadata = {_CARD: text, _DIGEST: digest(text, weights)}
  with atomic_write(with_suffix(path)) as aside:
    write_arrays(aside, weights, metadata)


def load(path: Path) -> tuple[Card, dict[str, np.ndarray]]:
  """Reads a detector and checks that it is whole; its suffix may be left out.

  Raises an OSError or a ValueError that says what is wrong.
  """
  given, path = path, path if path.is_file() else with_suffix(path)
  if not path.is_file():
    near = (given if given.is_dir() else given.parent).glob(f'*{SUFFIX}')
    held = ', '.join(sorted(one.stem for one in near))
    hint = f'there is {held}' if held else _ORIGIN
    raise FileNotFoundError(f'{given}: no such detector; {hint}')
  with path.open('rb'):
    pass  # Where it may not be read, safetensors says that there is none.
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      metadata = file.metadata() or {}
      weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _CARD not in metadata:
      raise ValueError(f'not a detector; {_ORIGIN}')
    card = Card.from_json(metadata[_CARD])
    _check_weights(card, weights)
    if metadata.get(_DIGEST) != digest(metadata[_CARD], weights):
      raise ValueError('damaged: its checksum differs; copy it again')
    return card, weights
  except (safetensors.SafetensorError, AttributeError, TypeError) as error:
    told = f'damaged, or not a detector ({error}); copy it again'
    raise ValueError(f'{path}: {told}') from None
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def read_card(path: Path) -> Card:
  """Reads a detector's description alone; a damaged file raises any error."""
  with safetensors.safe_open(path, 'numpy') as file:
    return Card.from_json((file.metadata() or {})[_CARD])


def path_in(workdir: Path, category: str) -> Path:
  """Returns where a run leaves the detector of a category."""
  return workdir / 'detectors' / f'{category}{SUFFIX}'


def command(*detectors: Path) -> str:
  """Returns the command that predicts with a file, or with one of several."""
  path, more = detectors[0].with_suffix(''), ''
  if len(detectors) > 1:
    more = f' (NAME: {", ".join(one.stem for one in detectors)})'
    path = path.with_name('NAME')
  given = f'--detector={shlex.quote(str(path))} --input=NEW_IMAGES'
  return f'simplenet predict {given} --output=found{more}'


def digest(card: str, weights: Mapping[str, np.ndarray]) -> str:
  """Returns a checksum of all that a detector is; `card` as it is written."""
  found = hashlib.sha256(card.encode())
  for name in sorted(weights):
    found.update(f'\0{name}\0'.encode())
    found.update(np.ascontiguousarray(weights[name]).data)
  return found.hexdigest()


def with_suffix(path: Path) -> Path:
  """Returns a detector's path with the suffix that may be left out."""
  # A category's name may hold dots.
  return path if path.suffix == SUFFIX else Path(f'{path}{SUFFIX}')


def _check_weights(card: Card, weights: Mapping[str, np.ndarray]) -> None:
  network, heads = card.network, card.heads
  expected: dict[str, tuple[int, ...]] = {}
  if heads:
    expected |= _head_shapes(network.dim, heads, weights)
  if card.nearest:
    expected['nearest.bank'] = card.nearest, network.dim
    expected['nearest.units'] = (2,)
  if 'roi' in weights:
    expected['roi'] = network.size
  for name, _, shape in network.spec.layers(network.levels):
    expected |= {f'{name}.kernel': shape, f'{name}.bias': shape[-1:]}
  for name, shape in expected.items():
    value = weights.get(name)
    if value is None or value.dtype != np.float32 or value.shape != shape:
      raise ValueError(f'damaged: {name} is missing or of another shape')
    if not np.isfinite(value).all():
      raise ValueError(f'damaged: {name} is not finite')
  # What is computed goes by the weights that are there.
  if more := {n for n in weights if n.startswith(_COMPUTED)} - {*expected}:
    raise ValueError(f'damaged: {min(more)} belongs to no part of it')


def _head_shapes(
  dim: int, heads: int, weights: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the weights of `head.fold`, whatever is wrong."""
  expected: dict[str, tuple[int, ...]] = {}
  outputs, units = (
    np.size(weights.get(name, ())) for name in ('head.first.bias', 'head.tail')
  )
  if 'head.second.kernel' in weights:
    width, inner = outputs // heads, units // heads
    outputs, units = heads * width, heads * inner
    expected['head.second.kernel'] = heads, width, inner
    expected['head.second.bias'] = heads, inner
  else:
    outputs = units
  return expected | {
    'head.first.kernel': (dim, outputs),
    'head.first.bias': (outputs,),
    'head.tail': (units,),
  }
