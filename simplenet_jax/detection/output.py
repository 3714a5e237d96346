"""Scores many files; leaves a table, pictures and maps on disk."""

import collections
import contextlib
import dataclasses
import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from simplenet_jax.console import Board, Stopped, caught, console, counted
from simplenet_jax.data import files, loading
from simplenet_jax.data.images import heated, outlined, write_map
from simplenet_jax.detection import thresholds
from simplenet_jax.detection.card import Card
from simplenet_jax.detection.thresholds import Prediction
from simplenet_jax.detector import Detector
from simplenet_jax.files import (
  atomic_write,
  is_formula,
  refuse_existing,
  table_writer,
)

_HEADER = ('path', 'score', 'threshold', 'verdict', 'time')
_VERDICTS = {None: '', False: 'normal', True: 'anomalous'}
_SIDE = 1024  # Of a picture, in pixels, at most.
# Heat maps without a threshold are hottest at least so many times the spread of
# training images above the highest of them: new good ones lie somewhat higher.
_HEADROOM = 3.0
_AHEAD = 16  # Predictions being written or waiting for it.

Row = tuple[object, ...]


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
  """Scores files and writes what is found to a folder.

  Raises:
    ValueError: If the folder holds predictions that must stay, scores cannot be
      normalised, or (in the end, the others are written) an image cannot be
      used.
    console.Stopped: If a signal stopped it; what was done is written.
  """
  if normalise:
    detector.thresholds.normalised(0.0)  # Raises where it cannot be done.
  make_room(folder, paths, overwrite)
  card, (height, width) = detector.card, detector.size
  told = '\n  '.join(thresholds.describe(card.thresholds))
  found, now = card.thresholds.precision, detector.precision
  if found not in (None, now):
    told += f' (found in {found}, so in {now} about so)'
  console.print(
    f'Detector {card.name}: {card.network.architecture}, '
    f'{counted(detector.heads, "head")}, input {height} x {width}, {now} on '
    f'{detector.device}\n  {told}\n'
    f'  {counted(len(paths), "image")}, results in {folder}/'
  )
  detector.caution()
  if maps and card.crop:
    console.print(
      "  maps hold their image's lowest score where the crop leaves it out"
    )
  start = time.perf_counter()
  detector.warm_up(len(paths))
  console.print(f'  compiled in {time.perf_counter() - start:.1f} s')
  out = Output(folder, places(paths), limits(card), pictures, maps, normalise)
  _run(detector, paths, out, channels)


def limits(card: Card) -> tuple[float, float]:
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
  detector: Detector, paths: Sequence[Path], out: 'Output', channels: str
) -> None:
  """Predicts and writes, image by image, until there are no more."""
  errors: list[str] = []

  def on_error(source, error):
    text = str(error) if str(source) in str(error) else f'{source}: {error}'
    errors.append(text)
    console.print(f'  error: {text}')

  def written(found: Prediction) -> Row | None:
    try:
      return out.write(found)
    except ValueError as error:
      on_error(found.source, error)
      return None

  predictions = detector.predict(
    paths,
    channels=channels,
    thumbnail=_SIDE if out.pictures else 0,
    on_error=on_error,
  )
  anomalous, done, start = 0, 0, time.perf_counter()
  with (
    caught('what is done is written') as stop,
    Board() as board,
    table(out.folder) as add,
    contextlib.closing(
      loading.in_order(
        written,
        itertools.takewhile(lambda _: not stop.is_set(), predictions),
        _AHEAD,
      )
    ) as rows,
  ):
    for row in filter(None, rows):
      add(row)
      done += 1
      anomalous += row[3] == 'anomalous'
      rate = done / (time.perf_counter() - start)
      note = f'{done} of {len(paths)}, {rate:.1f} images/s'
      board.show('predicts', done + len(errors), len(paths), note)
    board.end('predicts')
  seconds = time.perf_counter() - start
  judged = detector.thresholds.image is not None
  flagged = f', {anomalous} anomalous' if judged else ''
  path = out.folder / files.TABLE
  console.print(
    f'{counted(done, "image")} in {seconds:.1f} s ({done / seconds:.1f} a '
    f'second){flagged}: {path}'
  )
  given = counted(len(paths), 'image')
  if stop.is_set() and done + len(errors) < len(paths):
    raise Stopped(
      f'stopped after {done} of {given}; {path} holds them', 128 + stop.signal
    )
  if errors:
    raise ValueError(
      f'{len(errors)} of {given} could not be used; the first, {errors[0]}'
    )


@dataclasses.dataclass(frozen=True)
class Output:
  """What is written of predictions, and where."""

  folder: Path
  places: dict[Path, Path]  # See `places`.
  limits: tuple[float, float]  # See `limits`.
  pictures: bool = True
  maps: bool = False
  normalise: bool = False

  def write(self, found: Prediction) -> Row:
    """Writes an image's picture and map; returns its row of the table."""
    path = found.source
    assert isinstance(path, Path)
    try:
      self._write_files(found, self.places[path])
    except OSError as error:
      if error.errno != errno.ENAMETOOLONG:
        raise
      raise ValueError(
        f'{path}: its name is too long for a picture and a map; shorten it, or '
        'give --nopictures and no --maps'
      ) from None
    score, limit = found.score, found.thresholds.image
    if self.normalise:
      score, limit = found.normalised, 1.0
    return (
      # No spreadsheet must take a path for a formula.
      f'./{path}' if is_formula(str(path)) else path,
      f'{score:.7g}',
      '' if limit is None else f'{limit:.7g}',
      _VERDICTS[found.anomalous],
      f'{found.seconds:.6f}',
    )

  def _write_files(self, found: Prediction, place: Path) -> None:
    if self.pictures:
      target = self.folder / files.PICTURES / place.parent / f'{place.name}.png'
      with atomic_write(target) as aside:
        self._picture(found).save(aside)
    if self.maps:
      target = self.folder / files.MAPS / place.parent / f'{place.name}.tiff'
      write_map(target, found.map, found.input_map.min())

  def _picture(self, found: Prediction) -> Image.Image:
    """Draws the heat map over an image, and a line around the defect."""
    image, limit = found.thumbnail, found.thresholds.pixel
    assert image is not None
    # Straight from the input's pixels to the picture's: they are the fewest.
    frame = dataclasses.replace(
      found.frame, original=(image.height, image.width)
    )
    heat = frame.map_to_original(found.input_map)
    picture = heated(image, heat, self.limits)
    return picture if limit is None else outlined(picture, heat > limit)


def make_room(folder: Path, inputs: Sequence[Path], overwrite: bool) -> None:
  """Removes what predictions left in a folder, unless it holds `inputs`."""
  names = (files.TABLE, *files.RESULTS)
  left = [one for name in names if os.path.lexists(one := folder / name)]
  for path in left:
    refuse_existing(path, overwrite)
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


@contextlib.contextmanager
def table(folder: Path) -> Iterator[Callable[[Row], None]]:
  """Yields a function that writes a row of a folder's table.

  The table appears in the end, whatever ends it, with the rows that came.
  """
  ended: BaseException | None = None
  with (
    atomic_write(folder / files.TABLE) as aside,
    # Names that are no text are kept as they are.
    aside.open('w', -1, 'utf-8', 'surrogateescape', '') as file,
  ):
    write = table_writer(file)
    write(_HEADER)

    def add(row: Row) -> None:
      write(row)
      file.flush()

    try:
      yield add
    except BaseException as error:  # Raised once the table is in its place.
      ended = error
  if ended:
    raise ended


def places(paths: Sequence[Path]) -> dict[Path, Path]:
  """Returns where each file's picture and map go, without their suffixes.

  Files in `<category>/test/<defect>/` keep these folders, as MVTec's evaluator
  expects, if they are of one data set; others keep those below the folder that
  all files have in common. Names that differ in their suffix only keep it.
  """
  absolute = {path: Path(os.path.abspath(path)) for path in paths}  # noqa: PTH100
  common = Path(os.path.commonpath([p.parent for p in absolute.values()]))
  below = {path: full.relative_to(common) for path, full in absolute.items()}
  relative = {
    path: Path(*full.parts[-4:])
    if len(full.parts) > 4 and full.parts[-3] == 'test'
    else below[path]
    for path, full in absolute.items()
  }
  if len(set(relative.values())) < len(relative):  # Of several data sets.
    relative = below
  taken = collections.Counter(p.with_suffix('') for p in relative.values())
  taken.update(set(relative.values()))
  return {
    path: place if taken[place.with_suffix('')] > 1 else place.with_suffix('')
    for path, place in relative.items()
  }
