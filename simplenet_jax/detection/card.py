"""What a detector is, beside its weights."""

import dataclasses
import json
import re
import sys
from typing import Any

import simplenet_jax
from simplenet_jax.data.frame import Frame
from simplenet_jax.detection.appearance import Appearance
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.models import resnet
from simplenet_jax.models.precision import PRECISIONS
from simplenet_jax.models.simplenet import Network

_KIND, _NUMBER = 'simplenet-jax detector', 2
FORMAT = f'{_KIND} {_NUMBER}'
# The beginning of a path of a machine, on any system.
_PATH = re.compile(r'/|~|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\')


@dataclasses.dataclass(frozen=True)
class Card:
  """A detector's description, all that a program needs beside the weights.

  Attributes:
    name: Of the category.
    network: Its structure.
    heads: How many heads' scores are averaged.
    resize: The shorter side of an image before its crop, in pixels; not read
      where nothing is cropped.
    crop: Side of the centre that is used, in pixels; 0: the whole image is
      brought to `network.size`.
    bits: Of 16-bit gray images, see `images.read_image`.
    margin: Of the training loss: normal patches were pushed below `-margin`,
      counterfeits above `margin`.
    thresholds: For verdicts.
    provenance: Where it comes from: config, data, weights, seeds, versions.
    appearance: What training images look like; None: nobody knows.
    usual: The median and the highest value of training images' anomaly maps;
      None: nobody knows.
    cautions: What was found wrong when it was trained, a sentence each.
  """

  name: str
  network: Network
  heads: int
  resize: int
  crop: int
  bits: int
  margin: float
  thresholds: Thresholds
  provenance: dict[str, Any]
  appearance: Appearance | None = None
  usual: tuple[float, float] | None = None
  cautions: tuple[str, ...] = ()

  def frame(self, size: tuple[int, int]) -> Frame:
    """Returns how an image of some (height, width) is brought to the input.

    Raises:
      ValueError: If it is too elongated to be cropped.
    """
    if self.crop:
      return Frame.protocol(size, self.resize, self.crop)
    return Frame.whole(size, self.network.size)

  def check(self) -> None:
    """Raises a ValueError for values with which nothing can be computed."""
    network, found = self.network, self.thresholds
    sizes = (*network.size, network.patch_size, network.target_dim, self.heads)
    limits = found.image, found.pixel, found.promised, found.median
    if not (
      network.architecture in resnet.ARCHITECTURES
      and network.padding in resnet.PADDINGS
      and network.levels
      and all(type(level) is int for level in network.levels)
      and list(network.levels) == sorted(set(network.levels) & {1, 2, 3})
      and len(network.size) == 2
      and all(type(size) is int and 0 < size < 2**16 for size in sizes)
      and type(network.pretrain_dim) is int
      and network.pretrain_dim > 0
      and _finite(network.smoothing)
      and 0 <= network.smoothing < 1e3
      and type(self.crop) is int
      and type(self.resize) is int
      and self.crop >= 0
      and type(self.bits) is int
      and 8 <= self.bits <= 16
      and self.resize > 0
      and isinstance(self.name, str)
      and isinstance(self.provenance, dict)
      and _finite(self.margin)
      and self.margin >= 0
      and all(limit is None or _finite(limit) for limit in limits)
      and (
        found.asked is None or (_finite(found.asked) and 0 < found.asked < 1)
      )
      and set(found.by_hand) <= {'image', 'pixel'}
      and all(getattr(found, name) is not None for name in found.by_hand)
      and found.precision in (None, *PRECISIONS)
      and type(found.images) is int
      and all(
        len(driver) == 2 and isinstance(driver[0], str) and _finite(driver[1])
        for driver in found.drivers
      )
      and (not self.crop or network.size == (self.crop, self.crop))
      and (self.usual is None or (len(self.usual) == 2 and _rises(self.usual)))
      and all(isinstance(caution, str) for caution in self.cautions)
    ):
      raise ValueError('its description holds values that make no sense')

  def portable(self) -> 'Card':
    """Returns the card without the folders of the machine it was made on."""
    drivers = tuple(
      (_without_folders(name), score) for name, score in self.thresholds.drivers
    )
    return dataclasses.replace(
      self,
      thresholds=dataclasses.replace(self.thresholds, drivers=drivers),
      provenance=_without_folders(self.provenance),
    )

  def to_json(self) -> str:
    """Returns the card as JSON."""
    return json.dumps({'format': FORMAT, **dataclasses.asdict(self)})

  @classmethod
  def from_json(cls, text: str) -> 'Card':
    """Reads a card.

    Raises:
      ValueError: If it is none, or made by a later version.
    """
    try:
      fields = json.loads(text)
      found = fields.pop('format')
    except (
      ValueError,
      KeyError,
      AttributeError,
      TypeError,
      RecursionError,
    ):
      raise ValueError('not the description of a detector') from None
    numbered = re.fullmatch(rf'{_KIND} (\d{{1,9}})', str(found))
    if not numbered:
      raise ValueError(f'its format is {found!r}, expected {FORMAT!r}')
    try:
      if int(numbered[1]) > _NUMBER or _has_unknown(fields):
        raise ValueError(_newer(fields))
      network, thresholds = fields.pop('network'), fields.pop('thresholds')
      for name in ('levels', 'size'):
        network[name] = tuple(network[name])
      thresholds['drivers'] = tuple(map(tuple, thresholds['drivers']))
      thresholds['by_hand'] = tuple(thresholds['by_hand'])
      # What format 1 does not have stays unknown.
      if (appearance := fields.get('appearance')) is not None:
        fields['appearance'] = Appearance.from_fields(appearance)
      for name in ('usual', 'cautions'):
        if fields.get(name) is not None:
          fields[name] = tuple(fields[name])
      card = cls(
        network=Network(**network),
        thresholds=Thresholds(**thresholds),
        **fields,
      )
      card.check()
    except (AttributeError, KeyError, TypeError):
      raise ValueError('its description is damaged; copy it anew') from None
    return card


def is_older(text: str) -> bool:
  """Returns whether an earlier version wrote a card that can be read."""
  return json.loads(text)['format'] != FORMAT


def _has_unknown(fields: dict[str, Any]) -> bool:
  """Returns whether a card has fields that this version does not know."""
  kinds = {
    'network': Network,
    'thresholds': Thresholds,
    'appearance': Appearance,
  }
  given: list[tuple[type, Any]] = [(Card, fields)]
  given += [(kind, fields.get(name)) for name, kind in kinds.items()]
  return any(
    set(values) - {field.name for field in dataclasses.fields(kind)}
    for kind, values in given
    if isinstance(values, dict)
  )


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


def _rises(pair: tuple[Any, ...]) -> bool:
  return all(_finite(value) for value in pair) and pair[0] <= pair[1]


def _finite(value: Any) -> bool:
  # JSON knows NaN, and whole numbers that no float can hold.
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return number and abs(value) <= sys.float_info.max
