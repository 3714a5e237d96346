"""A run's detector less what has seen some of its good images."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from simplenet_jax.detector import Detector
from simplenet_jax.models import head


def without_part(
  detector: Detector, part: int, gone: np.ndarray | None
) -> Detector:
  """Returns the head of a part alone, beside a bank without its patches.

  It scores the images of that part as `assembly.of_run` does. `gone`, bool
  `[bank]`, tells which patches are of these images; None: there is no bank.
  """
  weights: dict[str, Any] = dict(detector.weights)
  count = detector.card.heads
  if 'head.tail' in weights:
    every = [_one_head(weights, index, count) for index in range(count)]
    weights |= every[part]
    if gone is not None:  # Heads are in units, whose shifts are summed there.
      bank = jnp.asarray(weights['nearest.bank'])[None, :, None]
      means = [
        float(head.apply(one, [bank], [0], 'float32').mean()) for one in every
      ]
      shift = np.array([0, np.mean(means) - means[part]], np.float32)
      weights['nearest.units'] = weights['nearest.units'] + shift
  if gone is not None:
    shown = np.where(gone, np.argmin(gone), np.arange(len(gone)))
    weights['nearest.bank'] = weights['nearest.bank'][shown]
  return Detector(detector.card, weights, batch_size=detector.batch_size)


def _one_head(
  weights: dict[str, Any], index: int, count: int
) -> dict[str, Any]:
  """Returns the weights of one of several heads that `head.fold` joined."""
  found = {
    name: np.split(weights[name], count, axis=-1)[index]
    for name in ('head.first.kernel', 'head.first.bias', 'head.tail')
  }
  found['head.tail'] = found['head.tail'] * np.float32(
    count
  )  # No longer a mean.
  for name in ('head.second.kernel', 'head.second.bias'):
    if name in weights:
      found[name] = weights[name][index : index + 1]
  return found
