"""A detector in one file: safetensors, with its card in the header.

Nothing in such a file is executed when it is read.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
from absl import logging

from simplenet_jax.detection.card import FORMAT, Card
from simplenet_jax.files import atomic_write, write_arrays
from simplenet_jax.models import resnet

SUFFIX = '.safetensors'
_CARD, _DIGEST = 'detector', 'sha256'


def save(path: Path, card: Card, weights: Mapping[str, np.ndarray]) -> None:
  """Writes a detector; appends `.safetensors` if missing."""
  text = card.to_json()
  Card.from_json(text)  # Raises where values make no sense.
  metadata = {_CARD: text, _DIGEST: digest(text, weights)}
  with atomic_write(with_suffix(path)) as aside:
    write_arrays(aside, weights, metadata)


def load(path: Path) -> tuple[Card, dict[str, np.ndarray]]:
  """Reads a detector and checks that it is whole; its suffix may be left out.

  Raises:
    OSError: If there is no such file, or it may not be read.
    ValueError: If it is not a detector, is damaged, or of a later version.
  """
  if path.is_dir() and not with_suffix(path).is_file():
    held = ', '.join(sorted(one.stem for one in path.glob(f'*{SUFFIX}')))
    hint = f'name one of those in it: {held}' if held else 'none is in it'
    raise FileNotFoundError(f'{path}: no such detector but a folder; {hint}')
  path = path if path.is_file() else with_suffix(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no such detector; a run leaves them in WORKDIR/detectors'
    )
  with path.open('rb'):
    pass  # Where it may not be read, safetensors says that there is none.
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      metadata = file.metadata() or {}
      weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except (safetensors.SafetensorError, TypeError, ValueError) as error:
    raise ValueError(
      f'{path}: damaged, or not a detector ({error}); copy it anew'
    ) from None
  if _CARD not in metadata:
    raise ValueError(
      f'{path}: not a detector; a run leaves them in WORKDIR/detectors'
    )
  text = metadata[_CARD]
  try:
    card = Card.from_json(text)
    _check_weights(card, weights)
    if metadata.get(_DIGEST) != digest(text, weights):
      raise ValueError('damaged: its checksum differs; copy it anew')
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  if json.loads(text)['format'] != FORMAT:
    logging.warning(
      '%s: made by an older version; it does not know what its training images '
      'looked like, so images of another kind go unnoticed. Train it anew',
      path,
    )
  return card, weights


def read_card(path: Path) -> Card:
  """Reads a detector's description alone; does not check its weights."""
  try:
    with safetensors.safe_open(path, 'numpy') as file:
      return Card.from_json((file.metadata() or {})[_CARD])
  except (safetensors.SafetensorError, KeyError, ValueError) as error:
    raise ValueError(f'{path}: damaged, or not a detector ({error})') from None


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
  network = card.network

  def expect(name: str, *shape: int | None) -> tuple[int, ...]:
    """Returns a tensor's shape; raises if it is not as expected."""
    value = weights.get(name)
    if (
      value is None
      or value.dtype != np.float32
      or value.ndim != len(shape)
      or any(
        a not in (None, b) for a, b in zip(shape, value.shape, strict=True)
      )
    ):
      raise ValueError(f'damaged: {name} is missing or of another shape')
    if not np.isfinite(value).all():
      raise ValueError(f'damaged: {name} is not finite')
    return value.shape

  for name, _, shape in resnet.layers(network.architecture, network.levels):
    expect(f'{name}.kernel', *shape)
    expect(f'{name}.bias', shape[-1])
  (hidden,) = expect('head.tail', None)
  _, outputs = expect('head.first.kernel', network.target_dim, None)
  expect('head.first.bias', outputs)
  inputs, units = hidden, hidden
  if 'head.second.kernel' in weights:
    _, width, inner = expect('head.second.kernel', card.heads, None, None)
    expect('head.second.bias', card.heads, inner)
    inputs, units = card.heads * width, card.heads * inner
  if inputs != outputs or units != hidden or hidden % card.heads:
    raise ValueError('its layers do not fit each other')
