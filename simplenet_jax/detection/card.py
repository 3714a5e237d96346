"""What a detector is, beside its weights."""

import dataclasses
import json
import re
import sys
import types
import typing
from typing import Any

import simplenet_jax
from simplenet_jax.data.frame import Frame
from simplenet_jax.detection.appearance import Appearance
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.models import resnet
from simplenet_jax.models.simplenet import Network

_KIND, _NUMBER = 'simplenet-jax detector', 2
FORMAT = f'{_KIND} {_NUMBER}'
# What fields of `Thresholds` are called in files.
_KEYS = {
  'target_rate': 'asked',
  'guaranteed_rate': 'promised',
  'limiting_images': 'drivers',
  'manual': 'by_hand',
}
# The beginning of a path of a machine, on any system.
_PATH = re.compile(r'/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\')


@dataclasses.dataclass(frozen=True)
class Card:
  """A detector's description, all that a program needs beside the weights."""

  name: str  # The category's.
  network: Network  # The structure.
  heads: int  # How many heads' scores are averaged.
  resize: int  # The shorter side before the crop; not read without one.
  crop: int  # Side of the centre that is used; 0: the whole image is.
  bits: int  # How many bits 16-bit gray images make use of.
  # Training pushed normal patches below `-margin`, counterfeits above `margin`.
  margin: float
  thresholds: Thresholds
  provenance: dict[str, Any]  # Config, data, weights, seeds, versions.
  appearance: Appearance | None = None  # What training images look like.
  # The median and the highest value of training images' anomaly maps.
  usual: tuple[float, float] | None = None
  # What was found wrong when the detector was trained, a sentence each.
  cautions: tuple[str, ...] = ()

  def frame(self, size: tuple[int, int]) -> Frame:
    """Returns how an image of some (height, width) is brought to the input."""
    if self.crop:
      return Frame.protocol(size, self.resize, self.crop)
    return Frame.whole(size, self.network.size)

  def portable(self) -> 'Card':
    """Returns the card without the folders of the machine it was made on."""
    limiting = _without_folders(self.thresholds.limiting_images)
    return dataclasses.replace(
      self,
      thresholds=dataclasses.replace(self.thresholds, limiting_images=limiting),
      provenance=_without_folders(self.provenance),
    )

  def to_json(self) -> str:
    """Returns the card as JSON."""
    fields = dataclasses.asdict(self)
    fields['thresholds'] = {
      _KEYS.get(name, name): value
      for name, value in fields['thresholds'].items()
    }
    return json.dumps({'format': FORMAT, **fields})

  @classmethod
  def from_json(cls, text: str) -> 'Card':
    """Reads a card; a ValueError if it is none, nonsense or of the future."""
    try:
      fields = json.loads(text)
      found = str(fields.pop('format'))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
      raise ValueError('not the description of a detector') from None
    numbered = re.fullmatch(rf'{_KIND} (\d{{1,9}})', found)
    if not numbered:
      raise ValueError(f'its format is {found!r}, expected {FORMAT!r}')
    if int(numbered[1]) > _NUMBER:
      raise ValueError(_newer(fields))
    try:
      card = _parse(cls, fields)
    except _UnknownField:
      raise ValueError(_newer(fields)) from None
    except TypeError:
      raise ValueError('its description is damaged; copy it anew') from None
    _check_ranges(card)
    return card


_CLASSES = (Card, Network, Thresholds, Appearance)


class _UnknownField(Exception):  # noqa: N818 - a later version's, no error.
  pass


def _parse(kind: Any, value: Any) -> Any:
  """Returns a value of JSON as a field's type; a TypeError if it is another."""
  arguments = typing.get_args(kind)
  if isinstance(value, dict) and kind in _CLASSES:
    hints = typing.get_type_hints(kind)
    names = {_KEYS.get(name, name): name for name in hints}
    if value.keys() - names.keys():
      raise _UnknownField
    found: dict[str, Any] = {
      names[key]: _parse(hints[names[key]], one) for key, one in value.items()
    }
    return kind(**found)
  if isinstance(kind, types.UnionType):  # Always of a type and None.
    return None if value is None else _parse(arguments[0], value)
  if typing.get_origin(kind) is tuple and isinstance(value, list):
    if arguments[-1] is ...:
      arguments = arguments[:1] * len(value)
    if len(arguments) == len(value):
      return tuple(map(_parse, arguments, value))
  if kind is float and isinstance(value, int | float):
    # JSON knows NaN, and whole numbers that no float can hold.
    if not isinstance(value, bool) and abs(value) <= sys.float_info.max:
      return value
  elif type(value) is (typing.get_origin(kind) or kind):
    return value
  raise TypeError


def _check_ranges(card: Card) -> None:
  """Raises a ValueError for values with which nothing can be computed."""
  network, found, known = card.network, card.thresholds, card.appearance
  sides = (*network.size, network.patch_size, network.target_dim, card.heads)
  if not (
    network.architecture in resnet.ARCHITECTURES
    and network.padding in resnet.PADDINGS
    and network.levels
    and list(network.levels) == sorted(set(network.levels) & {1, 2, 3})
    and all(0 < side < 2**16 for side in sides)
    and network.pretrain_dim > 0
    and 0 <= network.smoothing < 1e3
    and card.resize > 0
    and card.crop >= 0
    and (not card.crop or network.size == (card.crop, card.crop))
    and 8 <= card.bits <= 16
    and card.margin >= 0
    and (found.target_rate is None or 0 < found.target_rate < 1)
    and set(found.manual) <= {'image', 'pixel'}
    and all(getattr(found, name) is not None for name in found.manual)
    and found.precision in (None, *PRECISIONS)
    and (known is None or known.makes_sense())
    and (card.usual is None or card.usual[0] <= card.usual[1])
  ):
    raise ValueError('its description holds values that make no sense')


def _newer(fields: dict[str, Any]) -> str:
  """Returns what is said of a card that a later version made."""
  mine = simplenet_jax.__version__
  try:
    theirs = str(fields['provenance']['versions']['simplenet-jax'])
  except (KeyError, TypeError):
    theirs = mine
  made_by = 'a simplenet-jax' if theirs == mine else f'simplenet-jax {theirs},'
  return f'made by {made_by} newer than this {mine}: upgrade simplenet-jax'


def _without_folders(value: Any) -> Any:
  """Returns JSON in which paths of a machine are their last names alone."""
  if isinstance(value, dict):
    return {key: _without_folders(one) for key, one in value.items()}
  if isinstance(value, list | tuple):
    return type(value)(_without_folders(one) for one in value)
  if isinstance(value, str) and _PATH.match(value):
    return re.split(r'[/\\]', value.rstrip('/\\'))[-1]
  return value
