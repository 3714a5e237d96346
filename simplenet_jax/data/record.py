"""A category's images: files, or records in a data set's files."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias


@dataclasses.dataclass(frozen=True)
class Record:
  """An image, or a mask, inside a file that holds many.

  Attributes:
    place: where it would lie in a folder of MVTec's layout, such as
      'bottle/test/good/003.png'.
    origin: the data set that it lies in, for messages.
    read_bytes: returns it as an image file's content.
    bytes: how many it takes where it lies.
    size: (height, width) of the image, in pixels.
  """

  place: PurePosixPath
  origin: str = dataclasses.field(repr=False)
  read_bytes: Callable[[], bytes] = dataclasses.field(repr=False)
  bytes: int
  size: tuple[int, int]

  def __str__(self) -> str:
    """Names it in messages: its data set, then its place."""
    return f'{self.origin}: {self.place}'


GOOD = 'good'  # The kind of a test image without a defect.

_PARTS = ('train', 'validation', 'test', 'ground_truth')

# What the pixels of a data set can be read from.
File: TypeAlias = Path | Record


def place(file: File) -> PurePosixPath:
  """Returns where an image lies within its data set, for names and tables."""
  if isinstance(file, Record):
    return file.place
  in_layout = file.parts[-3:-2] and file.parts[-3] in _PARTS
  return PurePosixPath(*file.parts[-4 if in_layout else -2 :])


def opened(file: File | str) -> Any:
  """Returns what can be decoded: a path, or a record's content as a file."""
  if isinstance(file, Record):
    return io.BytesIO(file.read_bytes())
  return Path(file)


def weight(file: File) -> int:
  """Returns how many bytes an image takes as it is stored."""
  return file.bytes if isinstance(file, Record) else file.stat().st_size


@dataclasses.dataclass(frozen=True)
class Sample:
  """A test image.

  Attributes:
    path: The image.
    defect: Its folder's name; 'good' for a normal image.
    masks: Its defect masks, all of which count; there may be none.
  """

  path: File
  defect: str
  masks: tuple[File, ...] = ()

  @property
  def label(self) -> int:
    """0 for a normal image, 1 for a defective one."""
    return int(self.defect != GOOD)


@dataclasses.dataclass(frozen=True)
class Category:
  """The images of one kind of object.

  Attributes:
    name: The folder's name.
    train: Normal images to train on, sorted by name.
    test: Test images, sorted by defect, then name; may be empty.
    validation: Normal images to set thresholds by; may be empty.
    drawn: How many good test images were drawn from the folder of good ones.
  """

  name: str
  train: tuple[File, ...]
  test: tuple[Sample, ...]
  validation: tuple[File, ...] = ()
  drawn: int = 0
