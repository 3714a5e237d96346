"""From a config, a backbone and trained heads to a detector."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simplenet_jax import environment
from simplenet_jax.config import Config, describe_protocol
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.thresholds import NONE
from simplenet_jax.detector import Detector
from simplenet_jax.models import head
from simplenet_jax.models.simplenet import Network


def assemble(
  config: Config,
  name: str,
  size: tuple[int, int],
  weights: Mapping[str, np.ndarray],
  heads: Sequence[Mapping[str, np.ndarray]],
  provenance: Mapping[str, Any],
  *,
  cautions: Sequence[str] = (),
) -> Detector:
  """Makes a detector, without thresholds; its card holds no folders' names.

  Args:
    config: That the heads were trained with.
    name: Of the category.
    size: Height and width of the network's input, in pixels.
    weights: The backbone's, from `resnet.fold`.
    heads: One or more; see `head.fold`. Their scores are averaged.
    provenance: Where it comes from; what the config and the environment say is
      added.
    cautions: What was found wrong when the heads were trained, a sentence each.
  """
  patch = config.patch
  network = Network(
    architecture=config.backbone.name,
    levels=tuple(config.backbone.levels),
    padding=config.backbone.padding,
    patch_size=patch.size,
    pretrain_dim=patch.pretrain_dim,
    target_dim=patch.target_dim,
    size=size,
    smoothing=float(config.evaluation.smoothing),
  )
  card = Card(
    name=name,
    network=network,
    heads=len(heads),
    resize=config.data.resize,
    crop=config.data.crop,
    bits=config.data.bits,
    margin=float(config.train.margin),
    thresholds=NONE,
    provenance={
      'protocol': describe_protocol(config),
      # As it comes back from a file: lists, not tuples.
      'config': json.loads(json.dumps(config.to_dict())),
      'versions': environment.versions(),
      **provenance,
    },
    cautions=tuple(cautions),
  )
  # It calibrates beside the heads that are still in training.
  return Detector(card.portable(), {**weights, **head.fold(heads)}, shrink=True)
