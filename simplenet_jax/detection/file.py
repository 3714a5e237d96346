"""A detector in one file: safetensors, with its card in the header.

Nothing in such a file is executed when it is read.
"""

import dataclasses
import hashlib
import json
import shlex
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from simplenet_jax.data.frame import Frame
from simplenet_jax.detection.inputs import Appearance
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.files import atomic_write, write_arrays
from simplenet_jax.models import backbone
from simplenet_jax.models.simplenet import Network
from simplenet_jax.pictures import Scale

SUFFIX = '.safetensors'
FORMAT = 'simplenet-jax detector 4'  # Its number counts changes of `Card`.
_CARD, _DIGEST = 'detector', 'sha256'
_COMPUTED = ('head.', 'nearest.')  # What names of weights begin with.
# Without a threshold, colours are hottest so many times the spread of training
# images above the highest of them: new good ones lie somewhat higher.
_HEADROOM = 3.0
_ORIGIN = 'a run leaves them in WORKDIR/detectors'


@dataclasses.dataclass(frozen=True)
class Card:
  """A detector's description, all that a program needs beside the weights."""

  name: str  # The category's.
  network: Network  # The structure.
  heads: int  # How many heads' scores are averaged; 0: there is none.
  resize: int  # The shorter side before the crop; not read without one.
  crop: int  # Side of the centre that is used; 0: the whole image is.
  bits: int  # How many bits 16-bit gray images make use of.
  # Training pushed normal patches below `-margin`, counterfeits above `margin`.
  margin: float
  thresholds: Thresholds
  provenance: dict[str, Any]  # Config, data, weights, seeds, versions.
  # Good patches to which distances count beside the heads; 0: there are none.
  nearest: int = 0
  appearance: Appearance | None = None  # What training images look like.
  # The median and the highest value of training images' anomaly maps.
  usual: tuple[float, float] | None = None
  # What was found wrong when the detector was trained, a sentence each.
  cautions: tuple[str, ...] = ()

  def frame(self, size: tuple[int, int]) -> Frame:
    """Returns how an image of some (height, width) is brought to the input."""
    return Frame.of(size, self.resize, self.crop, self.network.size)

  @property
  def scale(self) -> Scale:
    """Which colours the scores of its anomaly maps have in pictures."""
    if self.usual is None:
      return Scale.of(-self.margin, self.margin, self.thresholds.pixel)
    median, highest = self.usual
    # Training pushes good and counterfeit patches as far to either side of 0,
    # so the latter score about as much above it as good ones do below.
    hot = max(-median, highest + _HEADROOM * (highest - median))
    return Scale.of(median, hot, self.thresholds.pixel)

  def to_json(self) -> str:
    """Returns the card as JSON."""
    return json.dumps({'format': FORMAT, **dataclasses.asdict(self)})

  @classmethod
  def from_json(cls, text: str) -> 'Card':
    """Reads a card; a ValueError if it is none, nonsense or of the future."""
    try:
      fields = json.loads(text)
      found = fields.pop('format')
      if found == FORMAT:
        card = _parse(cls, fields)
        card.check()
        return card
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
      told = 'its description is damaged or makes no sense; copy it again'
      raise ValueError(told) from None
    raise ValueError(
      f'its format is {found!r}, this version reads {FORMAT!r}; upgrade '
      'simplenet-jax, or train it again'
    )

  def check(self) -> None:
    """Raises a ValueError for values with which nothing can be computed."""
    network, found, known = self.network, self.thresholds, self.appearance
    sides = *network.size, network.patch_size
    counts = network.pretrain_dim, network.target_dim, self.heads
    if not (
      network.architecture in backbone.ARCHITECTURES
      and network.padding in backbone.PADDINGS
      and network.levels
      and list(network.levels) == sorted({*backbone.LEVELS} & {*network.levels})
      and all(0 < side < 2**16 for side in sides)
      and all(0 <= count < 2**16 for count in counts)
      and 0 <= self.nearest <= 2**20
      and (self.heads or self.nearest)
      and 0 <= network.smoothing < 1e3
      and network.score in ('patch', 'map')
      and self.resize > 0
      and self.crop >= 0
      and (not self.crop or network.size == (self.crop, self.crop))
      and 8 <= self.bits <= 16
      and self.margin >= 0
      and (found.target_rate is None or 0 < found.target_rate < 1)
      and set(found.manual) <= {'image', 'pixel'}
      and all(getattr(found, name) is not None for name in found.manual)
      and found.precision in (None, *PRECISIONS)
      and len(found.good) in (0, found.images)
      and list(found.good) == sorted(found.good, key=lambda one: one.score)
      and (known is None or known.makes_sense())
      and (self.usual is None or self.usual[0] <= self.usual[1])
    ):
      raise ValueError('makes no sense')


def _parse(kind: Any, value: Any) -> Any:
  """Returns JSON as a field's type; raises a TypeError if it is of another."""
  arguments = typing.get_args(kind)
  if dataclasses.is_dataclass(kind) and isinstance(value, dict):
    hints = typing.get_type_hints(kind)
    found = {name: _parse(hints[name], one) for name, one in value.items()}
    return typing.cast(Any, kind)(**found)
  if hasattr(kind, '_fields') and isinstance(value, list):
    fields = zip(kind.__annotations__.values(), value, strict=True)
    return typing.cast(Any, kind)(*(_parse(*field) for field in fields))
  if isinstance(kind, types.UnionType):  # Always of a type and None.
    return None if value is None else _parse(arguments[0], value)
  if typing.get_origin(kind) is tuple and isinstance(value, list):
    if arguments[-1] is ...:
      arguments = arguments[:1] * len(value)
    if len(arguments) == len(value):
      return tuple(map(_parse, arguments, value))
  if kind is float and isinstance(value, int | float):
    # JSON knows NaN, and whole numbers that no float can hold.
    if type(value) is not bool and abs(value) <= sys.float_info.max:
      return value
  elif type(value) is (typing.get_origin(kind) or kind):
    return value
  raise TypeError


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
  """Raises a ValueError if weights do not fit a card."""
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
