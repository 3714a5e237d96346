"""What a category leaves in the work directory beside the results."""

import collections
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image

from simplenet_jax.data.inputs import Inputs
from simplenet_jax.data.record import place
from simplenet_jax.evaluation import pictures
from simplenet_jax.evaluation.judge import BLOCK, Judge
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
  `maps/<category>/test/<defect>/<stem>.tiff`. It sorts all pixels and knows no
  NaN, so what a crop leaves unscored is written as the map's lowest score, and
  told. Where two images of a defect differ in their suffix only, their maps
  keep it.

  Args:
    workdir: The run's directory.
    inputs: The category.
    judge: Of the category.
    patch_scores: Mean over seeds, `[images, H, W]`.
  """
  names = collections.Counter(
    (sample.defect, place(sample.path).stem) for sample in inputs.category.test
  )
  unscored = pixels = 0
  for index, heat in enumerate(_maps(judge, patch_scores)):
    sample = inputs.category.test[index]
    path = place(sample.path)
    alone = names[sample.defect, path.stem] == 1
    name = path.stem if alone else path.name
    lowest = heat.min()
    heat = inputs.test[index].map_to_original(heat)
    unscored += np.count_nonzero(np.isnan(heat))
    pixels += heat.size
    target = workdir / 'maps' / inputs.name / 'test' / sample.defect
    with written_aside(target / f'{name}.tiff') as aside:
      whole = Image.fromarray(np.nan_to_num(heat, nan=lowest))
      whole.save(aside, compression='tiff_adobe_deflate')
  if unscored:
    logging.warning(
      "%s: the crop leaves %.0f %% of the maps' pixels unscored; they are "
      "written as the map's lowest score",
      inputs.name,
      100 * unscored / pixels,
    )


def _maps(judge: Judge, patch_scores: np.ndarray) -> Iterator[np.ndarray]:
  for start in range(0, len(patch_scores), BLOCK):
    yield from judge.maps(patch_scores[start : start + BLOCK])


def whose(seeds: Sequence[int]) -> str:
  """Says whose scores are shown."""
  names = ', '.join(map(str, seeds))
  return f'mean of seeds {names}' if len(seeds) > 1 else f'seed {names}'


def write_sheet(
  workdir: Path,
  inputs: Inputs,
  judge: Judge,
  patch_scores: np.ndarray,
  evaluation: Config,
  *,
  seeds: Sequence[int],
) -> None:
  """Writes a category's picture sheet, `pictures/<name>.png`.

  Args:
    workdir: The run's directory.
    inputs: The category.
    judge: Of the category.
    patch_scores: Mean over seeds, `[images, H, W]`.
    evaluation: The section of a config.
    seeds: Of the heads shown.
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
    f'{inputs.name}: {whose(seeds)}, last epoch. Image, ground truth, anomaly '
    f'map from {limits[0]:.2f} (blue) to {limits[1]:.2f} (red), image score.'
  )
  pictures.write_sheet(
    workdir / 'pictures' / f'{inputs.name}.png', title, tiles, limits=limits
  )
