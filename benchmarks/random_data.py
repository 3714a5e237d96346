"""Random weights, random images of MVTec AD's sizes, and settings to read them.

Times do not depend on what weights and pixels are.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from simplenet_jax.config import from_protocol
from tests.models import torch_resnet

SIDE = 1024  # Of the files, in pixels; MVTec AD's usual one.
# MVTec AD's categories: training images, normal and defective test images.
MVTEC = {
  'bottle': (209, 20, 63), 'cable': (224, 58, 92),
  'capsule': (219, 23, 109), 'carpet': (280, 28, 89),
  'grid': (264, 21, 57), 'hazelnut': (391, 40, 70),
  'leather': (245, 32, 92), 'metal_nut': (220, 22, 93),
  'pill': (267, 26, 141), 'screw': (320, 41, 119),
  'tile': (230, 33, 84), 'toothbrush': (60, 12, 30),
  'transistor': (213, 60, 40), 'wood': (247, 19, 60),
  'zipper': (240, 32, 119),
}  # fmt: skip


def make_config(
  folder: Path,
  sizes: Mapping[str, Sequence[int]],
  backbone: str,
  precision: str,
  crop: int,
) -> Any:
  """Writes images and weights; returns the reference protocol's settings.

  `sizes` are training, normal and defective test images of each category.
  """
  write_images(folder / 'data', sizes)
  path = folder / 'weights.safetensors'
  save_file(torch_resnet.tensors(torch_resnet.fabricate(backbone)), path)
  config = from_protocol()
  config.name, config.precision = 'random', precision
  config.backbone.name, config.backbone.weights = backbone, str(path)
  config.data.root = str(folder / 'data')
  config.data.resize, config.data.crop = crop + 41, crop
  config.evaluation.pictures = 0
  config.engine.tensorboard = False
  return config


def write_images(root: Path, sizes: Mapping[str, Sequence[int]]) -> None:
  """Writes smooth noise as PNG files, in MVTec AD's layout."""
  rng = np.random.default_rng(0)
  mask = np.zeros((SIDE, SIDE), np.uint8)
  mask[300:500, 400:600] = 255
  for name, counts in sizes.items():
    kinds = ('train/good', 'test/good', 'test/hole')
    for kind, count in zip(kinds, counts, strict=True):
      (root / name / kind).mkdir(parents=True)
      small = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
      places = [root / name / kind / f'{i:03}.png' for i in range(count)]
      with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_write, small, places))
    masks = root / name / 'ground_truth/hole'
    masks.mkdir(parents=True)
    for index in range(counts[2]):
      Image.fromarray(mask).save(masks / f'{index:03}_mask.png')


def _write(small: np.ndarray, path: Path) -> None:
  large = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
  large.save(path)
