"""What a category leaves in the work directory beside its metrics."""

import base64
import collections
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from absl import logging
from PIL import Image, ImageDraw, ImageFont

from simplenet_jax.config import Config
from simplenet_jax.data import images, loading
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import metrics, results
from simplenet_jax.evaluation.testset import TestSet
from simplenet_jax.files import atomic_write

MOST_SHOWN = 2_000  # Test images on a page: about 20 MB.
# A picture's place on a sheet, in pixels, and what lies between them.
_SHEET, _GAP, _CAPTION, _INK = 210, 8, 20, (30, 30, 30)
# Longest sides of what the page embeds, at most; the browser enlarges it.
_PICTURE, _HEAT, _MASK = 256, 64, 128


def write_curves(
  workdir: Path,
  name: str,
  seeds: Sequence[int],
  history: Mapping[str, np.ndarray],
) -> None:
  """Writes `curves/<name>.csv`; a history is `[seeds, epochs]`."""
  epochs = np.arange(1, history['loss'].shape[1] + 1)
  rows = [
    np.column_stack([np.full_like(epochs, seed), epochs, *values])
    for seed, *values in zip(seeds, *history.values(), strict=True)
  ]
  table = np.concatenate(rows)
  header = ','.join(['seed', 'epoch', *history])
  formats = ['%d'] * 2 + ['%.6g'] * len(history)
  with atomic_write(workdir / 'curves' / f'{name}.csv') as aside:
    np.savetxt(aside, table, formats, ',', header=header, comments='')


def read_losses(workdir: Path, name: str) -> dict[int, list[float]]:
  """Reads back the loss of each epoch, by seed."""
  path = workdir / 'curves' / f'{name}.csv'
  losses = collections.defaultdict[int, list[float]](list)
  if path.is_file():
    _, *rows = path.read_text(encoding='utf-8').splitlines()
    for seed, _, loss, *_ in (row.split(',') for row in rows):
      losses[int(seed)].append(float(loss))
  return losses


def write(
  workdir: Path,
  inputs: Inputs,
  test: TestSet,
  scores: Mapping[int, np.ndarray],
  evaluation: Config,
  total: int,
) -> None:
  """Writes a category's picture sheet, maps and report data, as configured.

  They show the mean of `scores` `[images, H, W]` over seeds, as a detector
  does. The run's `total` test images share its page.
  """
  mean = np.mean(list(scores.values()), axis=0)
  pro = threshold = None
  wanted = evaluation.pictures or evaluation.report
  if wanted and test.masks is not None and 0 < test.masks.mean() < 1:
    ranked = metrics.rank(test.masks, test.maps(mean[test.has_truth]))
    threshold = float(ranked.values[ranked.f1().argmax()])
    rates = np.linspace(0, 0.3, 200)
    pro = np.stack([rates, ranked.overlap_at(rates)], axis=1)
  seeds = ', '.join(map(str, scores))
  whose = f'mean of seeds {seeds}' if len(scores) > 1 else f'seed {seeds}'
  if count := evaluation.pictures:
    path = workdir / 'pictures' / f'{inputs.name}.png'
    _write_sheet(path, whose, inputs, test, mean, count, threshold)
  if evaluation.maps:
    _write_maps(workdir / 'maps' / inputs.name / 'test', inputs, test, mean)
  if evaluation.report:
    share = max(1, len(mean) * min(total, MOST_SHOWN) // total)
    data = {
      'seeds': list(scores),
      'whose': whose,
      'pro': pro,
      'pixel_threshold': threshold,
      'images': _page_images(inputs, test, scores, mean, share, threshold),
    }
    results.write_json(report_path(workdir, inputs.name), data)


def report_path(workdir: Path, category: str) -> Path:
  """Returns where the report's data of a category lie."""
  return workdir / 'report' / f'{category}.json'


def _write_sheet(
  path: Path,
  whose: str,
  inputs: Inputs,
  test: TestSet,
  patch_scores: np.ndarray,
  count: int,
  threshold: float | None,
) -> None:
  """Writes a PNG of test images of all defects, their truth and maps."""
  chosen = in_turn(test.defects, range(len(inputs.test)), count)
  maps = test.maps(patch_scores[chosen])
  image_scores = test.image_scores(patch_scores[chosen])
  low, high = limits = images.colour_limits(maps)
  title = (
    f'{inputs.name}: {whose}, last epoch. Image, ground truth, anomaly map, '
    f'image score. Colours from {low:.2f} (blue) to {high:.2f} (red).'
  )
  if threshold is not None:
    title += f'\nOutlined above {threshold:.2f}: the best F1, chosen on test.'
  columns, top = min(len(chosen), 2), 3 * _CAPTION
  width, height = 3 * _SHEET + 2 * _GAP, _SHEET + _CAPTION + _GAP
  size = columns * width, -(-len(chosen) // columns) * height + top
  sheet = Image.new('RGB', size, 'white')
  draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
  draw.text((_GAP, _GAP), title, _INK, font=font)
  for number, (index, one) in enumerate(zip(chosen, maps, strict=True)):
    sample, mask = inputs.category.test[index], inputs.truth(index).original
    heat = inputs.test[index].map_to_original(one)
    whole = inputs.test_image(index)
    image = _resized(whole, _SHEET - 2, Image.Resampling.LANCZOS)
    shown = images.heated(image, heat, limits)
    if threshold is not None:
      shown = images.outlined(shown, heat >= threshold)
    caption = f'{sample.defect}/{images.place(sample.path).stem}'
    truth = image.convert('L').convert('RGB')
    if mask is None:
      caption += ', no ground truth'
    else:
      truth = images.outlined(image, mask)
    row, column = divmod(number, columns)
    x, y = column * width + _GAP, row * height + top
    draw.text((x, y), caption, _INK, font=font)
    score, right = f'{image_scores[number]:.3f}', x + 3 * _SHEET
    draw.text((right, y), score, _INK, font=font, anchor='ra')
    for at, picture in enumerate((image, truth, shown)):
      sheet.paste(picture, (x + at * _SHEET, y + _CAPTION))
  with atomic_write(path) as aside:
    sheet.save(aside)


def _write_maps(
  folder: Path, inputs: Inputs, test: TestSet, patch_scores: np.ndarray
) -> None:
  """Writes maps in the images' own pixels, named as MVTec AD's evaluator asks.

  Where two images of a defect differ in their suffix only, their maps keep it.
  """
  samples = [
    (one.defect, images.place(one.path)) for one in inputs.category.test
  ]
  names = collections.Counter((defect, path.stem) for defect, path in samples)
  unscored = []
  for (defect, path), one, frame in zip(
    samples, test.maps(patch_scores), inputs.test, strict=True
  ):
    heat = frame.map_to_original(one)
    unscored.append(np.isnan(heat).mean())
    name = path.stem if names[defect, path.stem] == 1 else path.name
    images.write_map(folder / defect / f'{name}.tiff', heat, one.min())
  if share := np.mean(unscored):
    logging.warning(
      f"{inputs.name}: the crop leaves {100 * share:.0f} % of the maps' pixels "
      "unscored; they are written as the map's lowest score"
    )


def _page_images(
  inputs: Inputs,
  test: TestSet,
  scores: Mapping[int, np.ndarray],
  mean: np.ndarray,
  count: int,
  threshold: float | None,
) -> list[dict[str, Any]]:
  """Returns the page's data of all test images, with `count` likely errors.

  These have pictures as data URLs, and outlines of what masks mark and of what
  scores above the threshold as SVG paths in a square of side 100.
  """
  image_scores = test.image_scores(mean)
  by_seed = [test.image_scores(one) for one in scores.values()]
  rows: list[dict[str, Any]] = [
    {
      'name': f'{sample.defect}/{images.place(sample.path).name}',
      'defect': sample.defect,
      'label': int(sample.label),
      'score': float(image_scores[index]),
      'scores': [float(one[index]) for one in by_seed],
    }
    for index, sample in enumerate(inputs.category.test)
  ]
  # Good images that score high and defective ones that score low come first.
  order = np.argsort(np.where(test.labels, image_scores, -image_scores))
  shown = in_turn(test.labels, order.tolist(), count)
  maps = test.maps(mean[shown])
  limits = images.colour_limits(maps)

  def pictures(at: int) -> dict[str, Any]:
    index = shown[at]
    image, mask = inputs.test_image(index), inputs.truth(index).original
    most = max(image.size)
    whole = Image.fromarray(inputs.test[index].map_to_original(maps[at]))
    # Any filter but the nearest pixel would spread NaN.
    heat = np.array(_resized(whole, min(_HEAT, most), Image.Resampling.NEAREST))
    truth = ''
    if mask is not None and mask.any():
      share = Image.fromarray(mask.astype(np.float32))
      share = np.array(_resized(share, min(_MASK, most), Image.Resampling.BOX))
      # However small it is, a defect keeps its cell.
      truth = _outline((share > 0).astype(np.float32), 0.5)
    alpha = np.where(np.isnan(heat), 0, 255).astype(np.uint8)[..., None]
    colours = np.append(images.coloured(heat, limits), alpha, -1)
    small = _resized(image, min(_PICTURE, most), Image.Resampling.BOX)
    return {
      'picture': _embedded(small, 60),
      'heat': _embedded(Image.fromarray(colours), 50),
      'truth': truth,
      'found': '' if threshold is None else _outline(heat, threshold),
      'size': image.size,
    }

  made = loading.in_order(pictures, range(len(shown)), ahead=8)
  for index, one in zip(shown, made, strict=True):
    rows[index] |= one
  return rows


def in_turn(kinds: Any, order: Iterable[int], count: int) -> list[int]:
  """Picks `count` indices of all kinds in turn, each's first in `order`."""
  seen, turns = collections.Counter(), {}
  for index in order:
    turns[index] = seen[kinds[index]]
    seen[kinds[index]] += 1
  return sorted(sorted(turns, key=turns.__getitem__)[:count])


def _resized(
  image: Image.Image, longest: int, kind: Image.Resampling
) -> Image.Image:
  scale = longest / max(image.size)
  width, height = (max(1, round(side * scale)) for side in image.size)
  return image.resize((width, height), kind)


def _embedded(image: Image.Image, quality: int) -> str:
  data = io.BytesIO()
  image.save(data, 'WEBP', quality=quality, alpha_quality=20, method=4)
  return f'data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}'


def _outline(values: np.ndarray, level: float) -> str:
  """Returns the lines at which a map passes a level, as closed SVG paths."""
  # Outside lies little below the level: far below would draw the line too far
  # inside.
  values = np.maximum(np.nan_to_num(values, nan=-np.inf), level - 1)
  padded = np.pad(values, 1, constant_values=level - 1)
  scale = 100 / np.array(values.shape[::-1])
  lines: Any = contourpy.contour_generator(z=padded).lines(level)
  paths = [np.clip((line - 0.5) * scale, 0, 100) for line in lines]
  return ''.join(
    'M' + ' '.join(f'{x:.1f} {y:.1f}' for x, y in path) + 'z' for path in paths
  )
