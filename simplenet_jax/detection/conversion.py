"""Exports in int8 and float16, with a report: JSON, Markdown, a picture."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from simplenet_jax.detection import engines, export, quantise
from simplenet_jax.detection.onnx_graph import Plan
from simplenet_jax.detector import Detector
from simplenet_jax.files import refuse_existing

_TOLERANCE = 0.02  # Of the range of scores, from what was proven to files.


def export_rounded(
  detector: Detector,
  kind: str,
  folder: Path,
  precision: str,
  given: quantise.Images,
  allowed: float,
  overwrite: bool = False,
  images: int = 0,
) -> dict[str, Any]:
  """Exports a detector in int8 or float16, proven on images that are given.

  Returns the report, which is in the folder, too. Raises a ValueError where
  more than a share `allowed` of verdicts, or one, change.
  """
  made, rows = export.FORMATS[kind], kind == 'onnx'
  for name in export.every_name():
    refuse_existing(folder / name, overwrite)

  def build(one: Detector, plan: Plan) -> engines.Model:
    load = engines.load_onnx if rows else engines.load_openvino
    return load(export.to_onnx(one, 0, plan)['model.onnx'])

  with export.needs_packages(kind):
    found = quantise.find(detector, precision, given, build, allowed, rows)
    card = dataclasses.replace(detector.card, thresholds=found.thresholds)
    after = Detector(card, detector.weights)
    files = made.build(after, images, found.plan)
    proven = export.in_order(build(after, found.plan))
    difference = export.compare(after, made.run(files), images, proven)
  # Sums in another order round a few values to the next level.
  export.check_difference(difference, _TOLERANCE)
  size = {'float32': len(export.to_onnx(detector)['model.onnx'])}
  size['rounded'] = sum(map(len, files.values()))
  report = {'name': card.name, 'format': kind, **found.report, 'bytes': size}
  lines = '\n'.join([f'# {card.name} in {precision}', '', *told(report), ''])
  beside = {
    'conversion.json': (json.dumps(report, indent=2) + '\n').encode(),
    'conversion.md': lines.encode(),
    'conversion.png': picture(report, found.scores),
    **export.texts(after, precision),
  }
  export.write(folder, files, beside, alone=True)
  return report


def told(report: dict[str, Any]) -> list[str]:
  """Returns the report in sentences, a list in Markdown."""
  images, verdicts = report['images'], report['verdicts']
  before, after = (report['thresholds'][when] for when in ('before', 'after'))
  sizes, times = report['bytes'], report['milliseconds']
  layers, others = report['layers'], ''
  good = f'{images["set_the_thresholds"]} good images'
  set_by = f'{good} set it, from {images["origin"]}.'
  if 'image' in report['by_hand']:
    set_by = f'It was set by hand, and stays. {good} are compared.'
  if count := images['calibrate_the_rounding']:
    others = f' {count} others calibrated the rounding and did not set it.'
  lines = [
    f'Verdicts: {verdicts["changed"]} of {verdicts["compared"]} differ from '
    "the detector's, each by its own threshold; at most "
    f'{verdicts["allowed"]:.0%}, or one, may.',
    f'Threshold: {after["image"]:.4g}, before {before["image"]:.4g}; for '
    f'pixels {after["pixel"]:.4g}, before {before["pixel"]:.4g}.',
    f'{set_by}{others}',
    f'Scores move by {report["mean_change"]:+.3g} on average, with a deviation '
    f"of {report['deviation_of_change']:.3g}; good images' scores have one of "
    f'{report["deviation_of_good_images"]:.3g}.',
    f'Size: {sizes["rounded"] / 1e6:.1f} MB, in float32 '
    f'{sizes["float32"] / 1e6:.1f} MB.',
    f'Speed on this computer: {times["rounded"]:.1f} ms an image, in float32 '
    f'{times["float32"]:.1f} ms.',
  ]
  if layers['int8']:
    kept = ', '.join(layers['float32']) or 'none'
    lines.append(
      f'{len(layers["int8"])} layers, {layers["work_in_int8"]:.0%} of the '
      f'work, are int8; kept in float32, as rounding them harms most: {kept}.'
    )
  for metric, value in report.get('test', {}).get('before', {}).items():
    now = report['test']['after'][metric]
    lines.append(f'{metric}: {now:.2%}, in float32 {value:.2%}.')
  return [f'- {line}' for line in lines]


def picture(report: dict[str, Any], scores: np.ndarray) -> bytes:
  """Draws each image's score before and after, with both thresholds: PNG."""
  from matplotlib.figure import Figure

  figure = Figure((5, 5), layout='constrained')
  axes, good = figure.subplots(), len(scores) - report['images']['test']
  axes.scatter(*scores[good:].T, c='#d9822b', label='test images')
  axes.scatter(*scores[:good].T, c='#3a7ca5', label='good images')
  axes.plot(*[[scores.min(), scores.max()]] * 2, color='#999999')
  before, after = (report['thresholds'][when] for when in ('before', 'after'))
  axes.axvline(before['image'], color='#222222', linestyle='--')
  axes.axhline(after['image'], color='#222222', linestyle='--')
  axes.set(xlabel='score in float32', ylabel='score as exported')
  title = f'{report["name"]} in {report["precision"]}'
  axes.set_title(title, parse_math=False)
  axes.legend(loc='upper left')
  content = io.BytesIO()
  figure.savefig(content, format='png', dpi=150, metadata={'Software': None})
  return content.getvalue()
