"""What predictions leave on disk: a table, pictures and maps."""

import collections
import dataclasses
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from simplenet_jax.data import files
from simplenet_jax.detection.prediction import Prediction
from simplenet_jax.evaluation import pictures
from simplenet_jax.files import (
  is_formula,
  refuse_existing,
  table_writer,
  written_aside,
)

TABLE = files.TABLE
_HEADER = ('path', 'score', 'threshold', 'verdict', 'time')
SIDE = 1024  # Of a picture, in pixels, at most.
_VERDICTS = {None: '', False: 'normal', True: 'anomalous'}

Row = tuple[object, ...]


@dataclasses.dataclass(frozen=True)
class Output:
  """Where predictions of some files go.

  Attributes:
    folder: Of everything.
    places: For each file, where its picture and map go, relative and without a
      suffix.
    limits: Scores at the cold and at the hot end of the pictures' colours.
    pictures: Whether to draw pictures.
    maps: Whether to write anomaly maps.
    normalise: Whether the table's scores are normalised.
  """

  folder: Path
  places: dict[Path, Path]
  limits: tuple[float, float]
  pictures: bool = True
  maps: bool = False
  normalise: bool = False

  def write(self, found: Prediction) -> Row:
    """Writes an image's picture and map; returns its row of the table.

    Args:
      found: With its thumbnail, if a picture is to be drawn.

    Raises:
      ValueError: If the image's name is too long.
    """
    assert isinstance(found.source, Path)
    if self.pictures or self.maps:
      try:
        self._show(found, found.source)
      except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
          raise
        raise ValueError(
          f'{found.source}: its name is too long for a picture and a map; '
          'shorten it, or give --nopictures and no --maps'
        ) from None
    limit = found.thresholds.image
    score = found.normalised if self.normalise else found.score
    shown = 1.0 if self.normalise else limit
    return (
      _no_formula(found.source),
      f'{score:.7g}',
      '' if shown is None else f'{shown:.7g}',
      _VERDICTS[found.anomalous],
      f'{found.seconds:.6f}',
    )

  def _show(self, found: Prediction, path: Path) -> None:
    """Writes what there is to see of an image's anomaly map."""
    place = self.places[path]
    if self.pictures:
      target = self.folder / files.PICTURES / place.parent / f'{place.name}.png'
      with written_aside(target) as aside:
        self._drawn(found).save(aside)
    if self.maps:
      target = self.folder / files.MAPS / place.parent / f'{place.name}.tiff'
      pictures.write_map(target, found.map, found.input_map.min())

  def _drawn(self, found: Prediction) -> Image.Image:
    """Draws the heat map over an image, and a line around the defect."""
    image = found.thumbnail
    assert image is not None
    # Straight from the input's pixels to the picture's: they are the fewest.
    frame = dataclasses.replace(
      found.frame, original=(image.height, image.width)
    )
    heat = frame.map_to_original(found.input_map)
    picture = pictures.heated(image, heat, self.limits)
    limit = found.thresholds.pixel
    return (
      picture if limit is None else pictures.outlined(picture, heat > limit)
    )


def _no_formula(path: Path) -> Path | str:
  """Returns a path that no spreadsheet takes for a formula; the same file."""
  return f'./{path}' if is_formula(str(path)) else path


def make_room(folder: Path, inputs: Sequence[Path], overwrite: bool) -> None:
  """Removes what predictions left in a folder, and nothing else.

  Args:
    folder: The folder; it need not be there.
    inputs: Images that must stay.
    overwrite: Whether anything may be removed.

  Raises:
    ValueError: If there is something that must not be removed.
  """
  for name in (TABLE, *files.RESULTS):
    path = folder / name
    refuse_existing(path, overwrite)
    kept = path.resolve()
    if used := [one for one in inputs if kept in one.resolve().parents]:
      raise ValueError(
        f'{path} would be replaced but holds {used[0]}, which --input names; '
        'give another --output'
      )
  for name in (TABLE, *files.RESULTS):
    path = folder / name
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path)
    else:
      path.unlink(missing_ok=True)


def write_table(folder: Path, rows: Iterable[Row]) -> Iterator[Row]:
  """Writes rows to a table as they come.

  The table appears when there are no more, when the iterator is closed before,
  or when `rows` raises, and holds those that came.

  Args:
    folder: Of the table.
    rows: See `Output.write`.

  Yields:
    The rows.
  """
  ended: BaseException | None = None
  with (
    written_aside(folder / TABLE) as aside,
    # Names that are no text are kept as they are.
    aside.open('w', -1, 'utf-8', 'surrogateescape', '') as file,
  ):
    write = table_writer(file)
    write(_HEADER)
    try:
      for row in rows:
        write(row)
        file.flush()
        yield row
    except BaseException as error:  # What came is kept, whatever happened.
      ended = error
  if ended and not isinstance(ended, GeneratorExit):
    raise ended


def places(paths: Sequence[Path]) -> dict[Path, Path]:
  """Returns where each file's picture and map go, without their suffixes.

  Files in `<category>/test/<defect>/` keep these folders, as MVTec's evaluator
  expects, if they are of one data set; others keep those below the folder that
  all files have in common. Names that differ in their suffix only keep it.

  Args:
    paths: All files, different ones.
  """
  absolute = {path: Path(os.path.abspath(path)) for path in paths}  # noqa: PTH100
  common = Path(os.path.commonpath([p.parent for p in absolute.values()]))
  relative = {
    path: Path(*full.parts[-4:])
    if len(full.parts) > 4 and full.parts[-3] == 'test'
    else full.relative_to(common)
    for path, full in absolute.items()
  }
  if len(set(relative.values())) < len(relative):  # Of several data sets.
    relative = {p: full.relative_to(common) for p, full in absolute.items()}
  taken = collections.Counter(p.with_suffix('') for p in relative.values())
  taken.update(set(relative.values()))
  return {
    path: place if taken[place.with_suffix('')] > 1 else place.with_suffix('')
    for path, place in relative.items()
  }
