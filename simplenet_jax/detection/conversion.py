"""Exports in int8 and float16, with a report: JSON, Markdown, a picture."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

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
  if precision == 'int8' and (slow := _no_faster(report)):
    logging.warning('%s: %s', card.name, slow)
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
  layers, count = report['layers'], images['calibrate_the_rounding']
  good, origin = images['set_the_thresholds'], images['origin']
  own = [f'{one:.4g}' for one in report['thresholds']['own'] if one is not None]
  by_hand = 'image' in report['by_hand']
  set_by = f'{good} good images set it, from {origin}.'
  if by_hand:
    set_by = f'It was set by hand, and stays. {good} good images are compared.'
  elif after['images'] > good:
    set_by = (
      f'It comes from {after["images"]} good images, from {origin}: the '
      f'{count} that score lowest calibrated the rounding, the {good} others '
      'set it.'
    )
  elif count:
    set_by += f' {count} others calibrated the rounding.'
  lines = [
    f'Verdicts: {verdicts["changed"]} of {verdicts["compared"]} differ from '
    "the detector's, each by the threshold that these images give it; at most "
    f'{verdicts["allowed"]:.0%}, or one, may.',
    f'Threshold: {after["image"]:.4g}; for pixels {after["pixel"]:.4g}.',
    set_by,
    f'In float32 the same images give {before["image"]:.4g}, and for pixels '
    f'{before["pixel"]:.4g}, computed anew; the detector itself has '
    f'{" and ".join(own) or "none"}.',
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
  tested = report.get('test', {'before': {}})
  for metric, value in tested['before'].items():
    now = tested['after'][metric]
    lines.append(f'{metric}: {now:.2%}, in float32 {value:.2%}.')
  if not tested['before']:
    lines.append(
      'No defects were compared, as none are known here: show the model some '
      'before you use it.'
    )
  return [f'- {line}' for line in lines]


def _no_faster(report: dict[str, Any]) -> str:
  """Says so, with a remedy, where a model is no faster than in float32."""
  now, before = (report['milliseconds'][x] for x in ('rounded', 'float32'))
  if now < before:
    return ''
  told = f'int8 takes {now:.1f} ms an image on this computer, float32 '
  told += f'{before:.1f} ms; take --precision=float32'
  return (
    told if report['format'] == 'openvino' else f'{told} or --format=openvino'
  )


def picture(report: dict[str, Any], scores: np.ndarray) -> bytes:
  """Draws each image's score before and after, with both thresholds: PNG."""
  from matplotlib.figure import Figure

  figure = Figure((5, 5), layout='constrained')
  axes, good = figure.subplots(), len(scores) - report['images']['test']
  if good < len(scores):
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
