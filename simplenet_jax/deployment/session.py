"""Many files shown to a detector: progress, results, what went wrong."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from simplenet_jax import interrupts
from simplenet_jax.data import loading
from simplenet_jax.deployment import output
from simplenet_jax.detector import Detector
from simplenet_jax.inference import thresholds
from simplenet_jax.inference.prediction import Prediction
from simplenet_jax.progress import Board, console, counted

_AHEAD = 16  # Predictions being written or waiting for it.


def predict(
  detector: Detector,
  paths: Sequence[Path],
  folder: Path,
  *,
  pictures: bool = True,
  maps: bool = True,
  normalise: bool = False,
) -> None:
  """Scores files and writes what is found.

  Args:
    detector: It.
    paths: The files.
    folder: Where results go.
    pictures: Whether to draw pictures.
    maps: Whether to write anomaly maps.
    normalise: Whether scores in the table are normalised.

  Raises:
    ValueError: If the folder holds predictions already, scores cannot be
      normalised, or (in the end, the others are written) an image cannot be
      used.
    interrupts.Stopped: If a signal asked it to stop; what was done is written.
  """
  if (folder / output.TABLE).exists():
    raise ValueError(
      f'{folder} holds predictions already; give another --output'
    )
  if normalise:
    detector.thresholds.normalised(0.0)  # Raises where it cannot be done.
  margin, pixel = detector.card.margin, detector.thresholds.pixel
  out = output.Output(
    folder,
    output.places(paths),
    limits=(-margin, max(margin, pixel or margin)),
    pictures=pictures,
    maps=maps,
    normalise=normalise,
  )
  _announce(detector, len(paths), folder)
  start = time.perf_counter()
  detector.warm_up(len(paths))
  console.print(f'  compiled in {time.perf_counter() - start:.1f} s')
  errors: list[str] = []

  def on_error(source, error):
    text = str(error) if str(source) in str(error) else f'{source}: {error}'
    errors.append(text)
    console.print(f'  error: {text}')

  anomalous, done, start = 0, 0, time.perf_counter()
  with interrupts.caught('what is done is written') as stop, Board() as board:

    def predictions() -> Iterator[Prediction]:
      for found in detector.predict(paths, on_error=on_error):
        yield found
        if stop.is_set():
          return

    written = loading.in_order(out.write, predictions(), _AHEAD)
    for row in output.write_table(folder, written):
      done += 1
      anomalous += row[3] == 'anomalous'
      rate = done / (time.perf_counter() - start)
      note = f'{done} of {len(paths)}, {rate:.1f} images/s'
      board.show('predicts', done + len(errors), len(paths), note)
    board.end('predicts')
  seconds = time.perf_counter() - start
  found = (
    '' if detector.thresholds.image is None else f', {anomalous} anomalous'
  )
  console.print(
    f'{counted(done, "image")} in {seconds:.1f} s ({done / seconds:.1f} a '
    f'second){found}: {folder / output.TABLE}'
  )
  if stop.is_set() and done + len(errors) < len(paths):
    raise interrupts.Stopped(
      f'stopped after {done} of {counted(len(paths), "image")}; '
      f'{folder / output.TABLE} holds them',
      128 + stop.signal,
    )
  if errors:
    raise ValueError(
      f'{len(errors)} of {counted(len(paths), "image")} could not be used; the '
      f'first, {errors[0]}'
    )


def _announce(detector: Detector, count: int, folder: Path) -> None:
  card, (height, width) = detector.card, detector.size
  console.print(
    f'Detector {card.name}: {card.network.architecture}, '
    f'{counted(detector.heads, "head")}, input {height} x {width}, '
    f'{detector.precision} on {detector.device}\n'
    f'  {thresholds.describe(card.thresholds)}\n'
    f'  {counted(count, "image")}, results in {folder}/'
  )
