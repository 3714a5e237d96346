"""A detector in one file: safetensors, with its card in the header.

Nothing in such a file is executed when it is read.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
from absl import logging

from simplenet_jax.detection.card import Card, is_older
from simplenet_jax.files import write_arrays, written_aside
from simplenet_jax.models import resnet

SUFFIX = '.safetensors'
_CARD, _DIGEST = 'detector', 'sha256'


def save(path: Path, card: Card, weights: Mapping[str, np.ndarray]) -> None:
  """Writes a detector.

  Args:
    path: The file; its suffix may be left out.
    card: Its description.
    weights: Folded, float32.

  Raises:
    ValueError: If the description holds values that make no sense.
  """
  card.check()
  text = card.to_json()
  metadata = {_CARD: text, _DIGEST: digest(text, weights)}
  with written_aside(with_suffix(path)) as aside:
    write_arrays(aside, weights, metadata)


def load(path: Path) -> tuple[Card, dict[str, np.ndarray]]:
  """Reads a detector and checks that it is whole.

  Args:
    path: The file; its suffix may be left out.

  Raises:
    FileNotFoundError: If there is no such file.
    PermissionError: If it may not be read.
    ValueError: If it is no detector, or damaged.
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
  try:
    card = Card.from_json(metadata[_CARD])
    _check(card, weights)
    if metadata.get(_DIGEST) != digest(metadata[_CARD], weights):
      raise ValueError('damaged: its checksum differs; copy it anew')
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  if is_older(metadata[_CARD]):
    logging.warning(
      '%s: made by an older version; it does not know what its training images '
      'looked like, so images of another kind go unnoticed. Train it anew',
      path,
    )
  return card, weights


def read_card(path: Path) -> Card:
  """Reads a detector's description alone; its weights are not checked.

  Args:
    path: The file.

  Raises:
    ValueError: If it is no detector, or damaged.
  """
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


def _check(card: Card, weights: Mapping[str, np.ndarray]) -> None:
  """Raises if weights do not fit a card."""
  network = card.network
  for name, _, shape in resnet.layers(network.architecture, network.levels):
    _expect(weights, f'{name}.kernel', shape)
    _expect(weights, f'{name}.bias', shape[-1:])
  (hidden,) = _expect(weights, 'head.tail', (None,))
  _, outputs = _expect(weights, 'head.first.kernel', (network.target_dim, None))
  _expect(weights, 'head.first.bias', (outputs,))
  inputs = hidden
  if 'head.second.kernel' in weights:
    shape = (card.heads, None, None)
    _, width, inner = _expect(weights, 'head.second.kernel', shape)
    _expect(weights, 'head.second.bias', (card.heads, inner))
    inputs, expected = card.heads * width, card.heads * inner
    if hidden != expected:
      raise ValueError('its layers do not fit each other')
  if inputs != outputs or hidden % card.heads:
    raise ValueError('its layers do not fit each other')


def _expect(
  weights: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...]
) -> tuple[int, ...]:
  """Returns a tensor's shape; raises if it is not as expected."""
  value = weights.get(name)
  fits = (
    value is not None
    and value.dtype == np.float32
    and value.ndim == len(shape)
    and all(a in (None, b) for a, b in zip(shape, value.shape, strict=True))
  )
  if not fits or value is None:
    raise ValueError(f'damaged: {name} is missing or of another shape')
  if not np.isfinite(value).all():
    raise ValueError(f'damaged: {name} is not finite')
  return value.shape
