"""What a detector is, beside its weights."""

import dataclasses
import json
import sys
from typing import Any

from simplenet_jax.data.frame import Frame
from simplenet_jax.inference.network import Network
from simplenet_jax.inference.thresholds import Thresholds
from simplenet_jax.models import resnet
from simplenet_jax.models.precision import PRECISIONS

FORMAT = 'simplenet-jax detector 1'


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
    ):
      raise ValueError('its description holds values that make no sense')

  def to_json(self) -> str:
    """Returns the card as JSON."""
    return json.dumps({'format': FORMAT, **dataclasses.asdict(self)})

  @classmethod
  def from_json(cls, text: str) -> 'Card':
    """Reads a card.

    Raises:
      ValueError: If it is none, or from a later version.
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
    if found != FORMAT:
      raise ValueError(f'its format is {found!r}, expected {FORMAT!r}')
    try:
      network, thresholds = fields.pop('network'), fields.pop('thresholds')
      for name in ('levels', 'size'):
        network[name] = tuple(network[name])
      thresholds['drivers'] = tuple(map(tuple, thresholds['drivers']))
      thresholds['by_hand'] = tuple(thresholds['by_hand'])
      card = cls(
        network=Network(**network),
        thresholds=Thresholds(**thresholds),
        **fields,
      )
      card.check()
    except (AttributeError, KeyError, TypeError):
      raise ValueError('its description is damaged; copy it anew') from None
    return card


def _finite(value: Any) -> bool:
  # JSON knows NaN, and whole numbers that no float can hold.
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return number and abs(value) <= sys.float_info.max
