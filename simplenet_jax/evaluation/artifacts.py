"""What a category leaves in the work directory beside the results."""

import collections
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.record import place
from simplenet_jax.evaluation import pictures
from simplenet_jax.evaluation.judge import Judge
from simplenet_jax.files import written_aside
from simplenet_jax.protocols import Config


def write_history(
  workdir: Path,
  name: str,
  seeds: Sequence[int],
  history: Mapping[str, np.ndarray],
) -> None:
  """Writes the course of training as a curve and as numbers.

  Args:
    workdir: The run's directory; `curves/<name>.png` and `.csv` are made.
    name: The category's.
    seeds: One per head.
    history: `loss`, `p_normal`, `p_counterfeit`: the epochs' means, float
      `[seeds, epochs]`.
  """
  pictures.write_curves(workdir / 'curves' / f'{name}.png', name, history)
  rows: list[list[object]] = [['seed', 'epoch', *history]]
  for head, seed in enumerate(seeds):
    columns = [values[head] for values in history.values()]
    for epoch, values in enumerate(zip(*columns, strict=True)):
      rows.append([seed, epoch + 1, *(f'{value:.6g}' for value in values)])
  with (
    written_aside(workdir / 'curves' / f'{name}.csv') as aside,
    aside.open('w', newline='') as file,
  ):
    csv.writer(file, lineterminator='\n').writerows(rows)


def write_maps(
  workdir: Path, inputs: Inputs, judge: Judge, patch_scores: np.ndarray
) -> None:
  """Writes anomaly maps as float32 TIFF, in the original images' pixels.

  They lie as the MVTec AD evaluator reads them,
  `maps/<category>/test/<defect>/<stem>.tiff`; NaN marks what the protocol did
  not score. Where two images of a defect differ in their suffix only, their
  maps keep it.

  Args:
    workdir: The run's directory.
    inputs: The category.
    judge: Of the category.
    patch_scores: `[images, H, W]`.
  """
  names = collections.Counter(
    (sample.defect, place(sample.path).stem) for sample in inputs.category.test
  )
  for index, sample in enumerate(inputs.category.test):
    path = place(sample.path)
    alone = names[sample.defect, path.stem] == 1
    name = path.stem if alone else path.name
    heat = judge.maps(patch_scores[index : index + 1])[0]
    heat = inputs.test[index].map_to_original(heat)
    target = workdir / 'maps' / inputs.name / 'test' / sample.defect
    with written_aside(target / f'{name}.tiff') as aside:
      Image.fromarray(heat).save(aside)


def write_sheet(
  workdir: Path,
  inputs: Inputs,
  judge: Judge,
  patch_scores: np.ndarray,
  evaluation: Config,
  *,
  seed: int,
) -> None:
  """Writes a category's picture sheet, `pictures/<name>.png`.

  Args:
    workdir: The run's directory.
    inputs: The category.
    judge: Of the category.
    patch_scores: Of the head shown, `[images, H, W]`.
    evaluation: The section of a config.
    seed: Of the head shown.
  """
  samples = inputs.category.test
  chosen = pictures.pick(
    [sample.defect for sample in samples], evaluation.pictures
  )
  maps = judge.maps(patch_scores[chosen])
  scores = patch_scores.max(axis=(1, 2))
  tiles = []
  for index, heat in zip(chosen, maps, strict=True):
    sample = samples[index]
    tiles.append(
      pictures.Tile(
        caption=f'{sample.defect}/{place(sample.path).stem}',
        image=inputs.test_image(index),
        mask=inputs.original_mask(index),
        heat=inputs.test[index].map_to_original(heat),
        score=float(scores[index]),
      )
    )
  limits = float(np.median(maps)), float(maps.max())
  title = (
    f'{inputs.name}: seed {seed}, last epoch. Image, ground truth, anomaly map '
    f'from {limits[0]:.2f} (blue) to {limits[1]:.2f} (red), image score.'
  )
  pictures.write_sheet(
    workdir / 'pictures' / f'{inputs.name}.png', title, tiles, limits=limits
  )
