"""Detectors made of trained heads, or of the released code's checkpoints."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from simplenet_jax import environment
from simplenet_jax.config import Config, describe_protocol
from simplenet_jax.console import console
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.detection import calibration, file, inputs, thresholds
from simplenet_jax.detector import Detector
from simplenet_jax.models import head, nearest, weights
from simplenet_jax.models.simplenet import Network, seen

_SCORED = 16  # Training images that are scored again, at most.

Head = Mapping[str, np.ndarray]  # A finished head's leaves, by name.
# Good patches, their distances' units, and the places of the images they show.
Bank = tuple[np.ndarray, nearest.Units, np.ndarray]


def assemble(
  config: Config,
  name: str,
  size: tuple[int, int],
  backbone: weights.Weights,
  heads: Sequence[Head],
  provenance: Mapping[str, Any],
  cautions: Sequence[str] = (),
  bank: Bank | None = None,
  roi: np.ndarray | None = None,
) -> Detector:
  """Makes a detector of a category's heads, which were trained with a config.

  With a bank it adds distances to the heads, or has these alone; a region of
  interest, bool `[*size]`, it keeps. `provenance` is noted without folders.
  """
  asked = config.evaluation
  network = Network.of(
    config, size=size, smoothing=float(asked.smoothing), score=asked.score
  )
  folded = head.fold(heads) if bank is None else {}
  if bank:
    folded = nearest.fold(*bank[:2], heads, config.nearest.head)
  noted = {
    'protocol': describe_protocol(config, backbone.other),
    'weights': {'name': backbone.name, 'sha256': backbone.sha256},
    'config': config.to_dict(),
    'versions': environment.versions(),
    **provenance,
  }
  card = file.Card(
    name=name,
    network=network,
    heads=len(heads),
    **{name: config.data[name] for name in ('resize', 'crop', 'bits')},
    margin=float(config.train.margin),
    thresholds=thresholds.Thresholds(),
    provenance=_without_folders(noted),
    nearest=len(folded.get('nearest.bank', ())),
    cautions=tuple(cautions),
  )
  # It calibrates beside the heads that are still in training.
  state = {**backbone.state, **folded}
  if roi is not None:
    state['roi'] = roi.astype(np.float32)
  return Detector(card, state, batch_size=config.backbone.batch_size)


def _without_folders(value: Any) -> Any:
  """Returns JSON in which paths of a machine are their last names alone."""
  if isinstance(value, dict):
    return {key: _without_folders(one) for key, one in value.items()}
  if isinstance(value, list | tuple):
    return [_without_folders(one) for one in value]
  if isinstance(value, str):
    path = PureWindowsPath(value)  # Which knows both kinds of slashes.
    if path.anchor or value.startswith(('~', '..')):
      return path.name
  return value


def is_made_of(path: Path, seeds: Sequence[int], images: str) -> bool:
  """Returns whether a file is a run's detector of these seeds and images."""
  try:
    told = file.load(path)[0].provenance
  except (FileNotFoundError, ValueError):
    return False
  same_images = told.get('data', {}).get('images') == images
  return same_images and told.get('seeds') == list(seeds)


def of_run(
  config: Config,
  backbone: weights.Weights,
  one: Inputs,
  heads: Mapping[int, Head],
  images: str,
  cautions: Sequence[str] = (),
  bank: Bank | None = None,
  folds: np.ndarray | None = None,
  on_found: Callable[[thresholds.Prediction], None] | None = None,
) -> Detector:
  """Makes a detector of a run's heads, calibrated by images they did not see.

  These are validation images or, by `folds`, int `[train]`, those that each
  seed's head left out; `on_found` is called with each one's prediction.
  """
  provenance = {
    'seeds': list(heads or config.seeds),
    'data': {'root': Path(config.data.root).absolute().name, 'images': images},
    'device': environment.device(),
  }
  leaves = list(heads.values())
  detector = assemble(
    *(config, one.name, one.size, backbone, leaves, provenance, cautions, bank),
    one.roi,
  )
  _look_at_training(detector, one)
  rate = config.detector.false_alarm_rate
  left_out = '  error: {}; left out of the threshold'
  on_error = lambda _, why: console.print(left_out.format(why))  # noqa: E731
  asked, parts, scored = {'on_error': on_error, 'on_found': on_found}, 0, []
  if held_out := one.category.validation:
    scored = detector.score_good(held_out, **asked)
  elif folds is not None:
    scored = _score_parts(config, one, detector, heads, bank, folds, **asked)
    parts = len(config.seeds)
  if held_out or scored:
    made = calibration.calibrate(scored, rate, parts)
    precision = detector.precision
    detector.thresholds = dataclasses.replace(made, precision=precision)
  elif folds is None and config.train.folds:
    logging.warning(
      '%s: no threshold, as it takes two good images and two --config.seeds to '
      'leave one out; set it with simplenet calibrate',
      one.name,
    )
  if detector.thresholds.image is not None:
    told = '\n    '.join(thresholds.describe(detector.thresholds))
    console.print(f'  {one.name}: {told}')
  return detector


def _score_parts(
  config: Config,
  one: Inputs,
  detector: Detector,
  heads: Mapping[int, Head],
  bank: Bank | None,
  folds: np.ndarray,
  **asked: Any,
) -> list[thresholds.GoodImage]:
  """Returns what `score_good` does of good images, by heads without them."""
  scored = []
  for part, seed in enumerate(config.seeds):
    if seed in heads:  # Else it was given up.
      folded = _without(config, bank, [heads[seed]], folds == part)
      alone = Detector(
        detector.card,
        {**detector.weights, **folded},
        batch_size=config.backbone.batch_size,
      )
      paths = itertools.compress(one.category.train, folds == part)
      scored += alone.score_good(list(paths), **asked)
  if left := len(one.train) - len(scored):
    told = '%s: %d of %d good images set no threshold'
    logging.warning(told, one.name, left, len(one.train))
  return scored


def _without(
  config: Config, bank: Bank | None, heads: Sequence[Head], left_out: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns a detector's weights of some heads, and of a bank less images."""
  if bank is None:
    return head.fold(heads)
  patches, units, places = bank
  folded = nearest.fold(patches, units, heads, config.nearest.head)
  return folded | {'nearest.bank': _less(patches, left_out[places])}


def _less(patches: np.ndarray, gone: np.ndarray) -> np.ndarray:
  """Has another patch stand in for each that is gone: nothing is compiled."""
  return patches[np.where(gone, np.argmin(gone), np.arange(len(gone)))]


def _look_at_training(detector: Detector, one: Inputs) -> None:
  """Notes in a detector's card what its training images look and score like."""
  count = len(one.train)
  evenly = np.linspace(0, count - 1, min(count, inputs.LOOKED_AT))
  pixels = [one.pixels(int(index)) for index in np.rint(evenly)]
  thumbnails = [inputs.thumbnail(image) for image in pixels]
  # A few suffice for the ends of the colours of heat maps.
  maps, _ = detector.infer(np.stack(pixels[:: -(-len(pixels) // _SCORED)]))
  maps = maps[:, seen(one.roi, one.size)]
  sizes = [frame.original for frame in one.train]
  detector.card = dataclasses.replace(
    detector.card,
    appearance=inputs.Appearance.of(thumbnails, sizes),
    usual=(float(np.median(maps)), float(maps.max())),
  )


def without_part(
  detector: Detector, part: int, gone: np.ndarray | None
) -> Detector:
  """Returns the head of a part alone, beside a bank without its patches.

  It scores the images of that part as `of_run` does. `gone`, bool
  `[bank]`, tells which patches are of these images; None: there is no bank.
  """
  weights: dict[str, Any] = dict(detector.weights)
  count = detector.card.heads
  if 'head.tail' in weights:
    every = [_one_head(weights, index, count) for index in range(count)]
    weights |= every[part]
    if gone is not None:  # Heads are in units, whose shifts are summed there.
      bank = jnp.asarray(weights['nearest.bank'])[None, :, None]
      scores = [head.apply(one, [bank], [0], 'float32') for one in every]
      means = [float(one.mean()) for one in scores]
      shift = np.array([0, np.mean(means) - means[part]], np.float32)
      weights['nearest.units'] = weights['nearest.units'] + shift
  if gone is not None:
    weights['nearest.bank'] = _less(weights['nearest.bank'], gone)
  return Detector(detector.card, weights, batch_size=detector.batch_size)


def _one_head(
  weights: dict[str, Any], index: int, count: int
) -> dict[str, Any]:
  """Returns the weights of one of several heads that `head.fold` joined."""
  found = {
    name: np.split(weights[name], count, axis=-1)[index]
    for name in ('head.first.kernel', 'head.first.bias', 'head.tail')
  }
  found['head.tail'] = found['head.tail'] * np.float32(count)  # Not a mean.
  for name in ('head.second.kernel', 'head.second.bias'):
    if name in weights:
      found[name] = weights[name][index : index + 1]
  return found
