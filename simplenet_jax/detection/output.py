"""Scores many files; leaves a table, pictures and maps on disk."""

import collections
import contextlib
import errno
import itertools
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from simplenet_jax import files
from simplenet_jax.console import Board, caught, console, counted, doing
from simplenet_jax.data import images, loading
from simplenet_jax.data.files import LINES, MAPS, PICTURES, TABLE
from simplenet_jax.data.frame import text
from simplenet_jax.detection import thresholds
from simplenet_jax.detection.predictor import Predictor
from simplenet_jax.detection.thresholds import Prediction
from simplenet_jax.pictures import SIDE

# `regions` is how many there are; the box is that of the highest peak.
_BOX = ('x', 'y', 'width', 'height')
HEADER = ('path', 'score', 'threshold', 'verdict', 'p_value', 'seconds')
HEADER += ('regions', *_BOX)
_VERDICTS = {None: None, False: 'normal', True: 'anomalous'}
_AHEAD = 16  # Predictions being written or waiting for it.
_NAMED = 5  # Anomalous images in the terminal.

Row = dict[str, Any]  # What is known of an image.


def predict(
  detector: Predictor,
  paths: Sequence[Path],
  folder: Path,
  *,
  name: str = 'DETECTOR',
  pictures: bool = True,
  maps: bool = False,
  normalise: bool = False,
  channels: str = 'rgb',
  overwrite: bool = False,
) -> None:
  """Scores files and writes what is found to a folder, whatever stops it."""
  card, table = detector.card, folder / TABLE
  given = counted(len(paths), 'image')
  if normalise:
    card.thresholds.normalised(0.0)  # Raises where it cannot be done.
  make_room(folder, paths, overwrite)
  told = '\n  '.join(promise(detector))
  console.print(
    f'Detector {card.name}: {card.network.architecture}, sees '
    f'{text(card.network.size)} pixels, {detector.precision} on '
    f'{detector.device}\n  {told}'
  )
  if maps and card.crop:
    console.print(
      "  maps hold their image's lowest score where the crop leaves it out"
    )
  with doing('prepares the device: its programs are loaded or compiled'):
    detector.warm_up(len(paths))
  place = places(paths)
  rows: list[Row] = []
  errors: list[str] = []
  drift = None if card.thresholds.image is None else detector.watch(name)

  def watched(found: Prediction) -> Prediction:
    if drift and (told := drift.update(found)):
      logging.warning('%s', told)
    return found

  def on_error(source, error):
    told = str(error) if str(source) in str(error) else f'{source}: {error}'
    errors.append(told)
    console.print(f'  error: {told}')

  def write(found: Prediction) -> Row | None:
    try:
      write_images(found, folder, place[found.source], maps, normalise)
    except OSError as error:
      if error.errno != errno.ENAMETOOLONG:
        raise
      on_error(found.source, 'its name is too long for --pictures or --maps')
      return None
    return result(found)

  side = SIDE if pictures else 0
  predictions = detector.predict(
    paths, channels=channels, thumbnail=side, on_error=on_error
  )
  start = time.perf_counter()
  with caught('writes what is done') as stop, Board() as board:
    until = itertools.takewhile(lambda _: not stop.is_set(), predictions)
    written = loading.in_order(write, map(watched, until), _AHEAD)
    try:
      for row in filter(None, written):
        rows.append(row)
        rate = len(rows) / (time.perf_counter() - start)
        note = f'{len(rows)} of {len(paths)}, {rate:.1f} a second'
        board.show('predicts', len(rows) + len(errors), len(paths), note)
      board.end('predicts')
    finally:  # Whatever ends it, the table has the rows that came.
      written.close()
      lines = ''.join(f'{json.dumps(row)}\n' for row in rows)
      files.write_text(folder / LINES, lines)
      cells = (table_cells(row, normalise) for row in rows)
      content = files.csv_text([HEADER, *cells])
      # Names that are no text stay as they are.
      files.write_text(table, content, 'surrogateescape')
  seconds, done = time.perf_counter() - start, counted(len(rows), 'image')
  flagged = [row for row in rows if row['verdict'] == _VERDICTS[True]]
  flagged.sort(key=lambda row: -row['score'])
  judged = '' if drift is None else f', {len(flagged)} NOT OK'
  speed = f', {len(rows) / seconds:.1f} a second' if len(rows) > 1 else ''
  console.print(f'{done} in {seconds:.1f} s{speed}{judged}')
  for row in flagged[:_NAMED]:
    console.print(f'  {row["path"]}: {row["score"]:.4g}')
  if len(flagged) > _NAMED:
    console.print(f'  and {len(flagged) - _NAMED} that score lower')
  console.print(f'Scores: {table}')
  if pictures:
    console.print(f'Look at them: {folder / PICTURES}/')
  if stop.is_set() and len(rows) + len(errors) < len(paths):
    raise stop.stopped(
      f'stopped after {len(rows)} of {given}; {table} holds them'
    )
  if errors:
    raise ValueError(
      f'{len(errors)} of {given} could not be used; the first, {errors[0]}'
    )


def promise(detector: Predictor) -> list[str]:
  """Says what `describe` does, and where it holds roughly."""
  told = thresholds.describe(detector.thresholds)
  found, now = detector.thresholds.precision, detector.precision
  if found not in (None, now):
    told[-1] += f' (found in {found}; in {now} they hold roughly)'
  return told


def write_images(
  found: Prediction, folder: Path, place: Path, maps: bool, normalise: bool
) -> None:
  """Writes an image's picture, where it has a thumbnail, and its map."""
  if found.thumbnail:
    found.save(folder / PICTURES / f'{place}.jpg', normalise=normalise)
  if maps:
    target = folder / MAPS / f'{place}.tiff'
    images.write_map(target, found.map, found.input_map.min())


def result(found: Prediction) -> Row:
  """Returns what predictions.jsonl has of an image: see docs/predict.md."""
  row: Row = {
    'path': str(found.source),
    'score': found.score,
    'threshold': found.thresholds.image,
    'verdict': _VERDICTS[found.anomalous],
    'p_value': found.p_value,
    'seconds': round(found.seconds, 6),
    'pixel_threshold': found.thresholds.pixel,
    'regions': found.regions and [one._asdict() for one in found.regions],
  }
  with contextlib.suppress(ValueError):  # Not every detector can.
    row['normalised'] = found.normalised
  return row


def table_cells(row: Row, normalise: bool) -> tuple[object, ...]:
  """Returns what predictions.csv has of an image."""
  path, score, limit = row['path'], row['score'], row['threshold']
  if normalise:
    score, limit = row['normalised'], 1.0
  found = row['regions']
  return (
    # No spreadsheet must take a path for a formula.
    f'./{path}' if files.is_formula(path) else path,
    f'{score:.7g}',
    '' if limit is None else f'{limit:.7g}',
    row['verdict'] or '',
    '' if row['p_value'] is None else f'{row["p_value"]:.4g}',
    f'{row["seconds"]:.6f}',
    '' if found is None else len(found),
    *(found[0]['box'] if found else [''] * len(_BOX)),
  )


def make_room(folder: Path, inputs: Sequence[Path], overwrite: bool) -> None:
  """Removes what predictions left in a folder, unless it holds `inputs`."""
  names = TABLE, PICTURES, MAPS, LINES
  left = [one for name in names if os.path.lexists(one := folder / name)]
  for path in left:
    files.refuse_existing(path, overwrite)
    kept = path.resolve()
    if used := [one for one in inputs if kept in one.resolve().parents]:
      raise ValueError(
        f'{path} would be replaced but holds {used[0]}, which --input names; '
        'give another --output'
      )
  for path in left:
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    else:
      path.unlink()


def places(paths: Sequence[Path]) -> dict[object, Path]:
  """Returns where each file's picture and map go, without their suffixes.

  Files in `<category>/test/<defect>/` of one data set keep these folders, as
  MVTec's evaluator expects, others those below the folder that all have in
  common. Names that differ in their suffix only keep it.
  """
  absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100
  common = os.path.commonpath([path.parent for path in absolute])
  below = [path.relative_to(common) for path in absolute]
  found = list(below)
  for at, full in enumerate(absolute):
    if len(full.parts) > 4 and full.parts[-3] == 'test':
      found[at] = Path(*full.parts[-4:])
  if len(set(found)) < len(found):  # Of several data sets.
    found = below
  taken = collections.Counter(place.with_suffix('') for place in found)
  taken.update(set(found))
  return {
    path: place if taken[place.with_suffix('')] > 1 else place.with_suffix('')
    for path, place in zip(paths, found, strict=True)
  }
