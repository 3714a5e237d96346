"""Many files shown to a detector: progress, results, what went wrong."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from simplenet_jax.console import Board, console, counted
from simplenet_jax.data import loading
from simplenet_jax.detection import output, thresholds
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.prediction import Prediction
from simplenet_jax.detector import Detector
from simplenet_jax.stop import Stopped, caught

# Heat maps without a threshold are hottest at least so many times the spread of
# training images above the highest of them: new good ones lie somewhat higher.
_HEADROOM = 3.0
_AHEAD = 16  # Predictions being written or waiting for it.


def predict(
  detector: Detector,
  paths: Sequence[Path],
  folder: Path,
  *,
  pictures: bool = True,
  maps: bool = False,
  normalise: bool = False,
  channels: str = 'rgb',
  overwrite: bool = False,
) -> None:
  """Scores files and writes what is found.

  Args:
    detector: It.
    paths: The files.
    folder: Where results go.
    pictures: Whether to draw pictures.
    maps: Whether to write anomaly maps.
    normalise: Whether scores in the table are normalised.
    channels: The order of the files' channels, see `Detector.predict`.
    overwrite: Whether predictions in the folder may be replaced.

  Raises:
    ValueError: If the folder holds predictions that must stay, scores cannot be
      normalised, or (in the end, the others are written) an image cannot be
      used.
    stop.Stopped: If a signal asked it to stop; what was done is written.
  """
  if normalise:
    detector.thresholds.normalised(0.0)  # Raises where it cannot be done.
  output.make_room(folder, paths, overwrite)
  out = output.Output(
    folder,
    output.places(paths),
    limits=_limits(detector.card),
    pictures=pictures,
    maps=maps,
    normalise=normalise,
  )
  _announce(detector, len(paths), folder)
  if maps and detector.card.crop:
    console.print(
      "  maps hold their image's lowest score where the crop leaves it out"
    )
  start = time.perf_counter()
  detector.warm_up(len(paths))
  console.print(f'  compiled in {time.perf_counter() - start:.1f} s')
  _run(detector, paths, out, channels)


def _limits(card: Card) -> tuple[float, float]:
  """Returns the scores at the cold and at the hot end of pictures' colours."""
  pixel = card.thresholds.pixel
  if card.usual is None:
    return -card.margin, max(card.margin, pixel or card.margin)
  median, highest = card.usual
  # Training pushes good and counterfeit patches as far to either side of 0, so
  # the latter score about as much above it as good ones do below.
  hot = max(-median, highest + _HEADROOM * (highest - median))
  return median, max(median, hot if pixel is None else pixel)


def _run(
  detector: Detector, paths: Sequence[Path], out: output.Output, channels: str
) -> None:
  """Predicts and writes, image by image, until there are no more."""
  errors: list[str] = []
  table = out.folder / output.TABLE

  def on_error(source, error):
    text = str(error) if str(source) in str(error) else f'{source}: {error}'
    errors.append(text)
    console.print(f'  error: {text}')

  def written(found: Prediction) -> output.Row | None:
    try:
      return out.write(found)
    except ValueError as error:
      on_error(found.source, error)
      return None

  def rows() -> Iterator[output.Row]:
    predictions = detector.predict(
      paths,
      channels=channels,
      thumbnail=output.SIDE if out.pictures else 0,
      on_error=on_error,
    )
    until_stop = itertools.takewhile(lambda _: not stop.is_set(), predictions)
    with contextlib.closing(
      loading.in_order(written, until_stop, _AHEAD)
    ) as results:
      yield from (row for row in results if row)

  anomalous, done, start = 0, 0, time.perf_counter()
  with caught('what is done is written') as stop, Board() as board:
    for row in output.write_table(out.folder, rows()):
      done += 1
      anomalous += row[3] == 'anomalous'
      rate = done / (time.perf_counter() - start)
      note = f'{done} of {len(paths)}, {rate:.1f} images/s'
      board.show('predicts', done + len(errors), len(paths), note)
    board.end('predicts')
  seconds = time.perf_counter() - start
  no_verdict = detector.thresholds.image is None
  console.print(
    f'{counted(done, "image")} in {seconds:.1f} s ({done / seconds:.1f} a '
    f'second){"" if no_verdict else f", {anomalous} anomalous"}: {table}'
  )
  if stop.is_set() and done + len(errors) < len(paths):
    raise Stopped(
      f'stopped after {done} of {counted(len(paths), "image")}; '
      f'{table} holds them',
      128 + stop.signal,
    )
  if errors:
    raise ValueError(
      f'{len(errors)} of {counted(len(paths), "image")} could not be used; the '
      f'first, {errors[0]}'
    )


def _announce(detector: Detector, count: int, folder: Path) -> None:
  card, (height, width) = detector.card, detector.size
  told = '\n  '.join(thresholds.describe(card.thresholds))
  console.print(
    f'Detector {card.name}: {card.network.architecture}, '
    f'{counted(detector.heads, "head")}, input {height} x {width}, '
    f'{detector.precision} on {detector.device}\n'
    f'  {told}{_of_precision(detector)}\n'
    f'  {counted(count, "image")}, results in {folder}/'
  )
  detector.caution()


def _of_precision(detector: Detector) -> str:
  found = detector.thresholds.precision
  if found in (None, detector.precision):
    return ''
  return f' (found in {found}, so in {detector.precision} about so)'
