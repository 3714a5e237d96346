"""Every file below a folder: which are images, and why the others are not.

Names tell images of the usual suffixes; other files are opened, and those that
`decoding` can read are images too. Whether an image is whole is not known yet.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from simplenet_jax.data import decoding

# Taken for images by their names alone, until they are read.
EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

# Why a file is left out.
HIDDEN = "hidden, or a system's own"
NOTHING = 'a link to nothing'
LOOP = 'a link to a folder that is read already'
NO_FILE = 'no file but a pipe, a socket or a device'
NO_IMAGE = 'no image by its content'
UNREAD = 'a kind of image that is not read; save it as PNG or JPEG'
FORBIDDEN = 'may not be read'

# Photographs that Pillow does not know, or knows the preview of alone.
_RAW = (
  *('.arw', '.cr2', '.cr3', '.dng', '.nef', '.orf', '.raf', '.rw2'),
  *('.dcm', '.exr', '.hdr', '.heic', '.heif', '.jxl'),
)
_DOCUMENTS = ('.bufr', '.grib', '.h5', '.hdf', '.mpeg', '.mpg', '.pdf')
_SYSTEM = (
  *('$recycle.bin', '#recycle', '@eadir', '@recycle', '__macosx'),
  *('desktop.ini', 'ehthumbs.db', 'lost+found', 'thumbs.db'),
  'system volume information',
)


@dataclasses.dataclass
class Folder:
  """A folder and what is in it.

  Attributes:
    path: As it is named, links not followed.
    images: Files in it that are images by their names or contents, sorted.
    folders: Folders in it, sorted; none that are hidden or a system's.
  """

  path: Path
  images: list[Path] = dataclasses.field(default_factory=list)
  folders: list['Folder'] = dataclasses.field(default_factory=list)

  @property
  def name(self) -> str:
    """Its own name, also of a relative path such as '.'; links keep theirs."""
    return Path(os.path.abspath(self.path)).name  # noqa: PTH100

  def below(self) -> Iterator['Folder']:
    """Yields this folder and all in it, at any depth."""
    yield self
    for folder in self.folders:
      yield from folder.below()

  def all_images(self) -> list[Path]:
    """Returns the images in it and below."""
    return [image for folder in self.below() for image in folder.images]


def read(root: Path) -> tuple[Folder, dict[Path, str]]:
  """Looks at everything below a folder.

  Links to folders are followed, below each of the root's folders once by a link
  and once by their own name, so that links in circles end.

  Args:
    root: The folder.

  Returns:
    It, and why which files and links below it are no images that can be used.
  """
  left_out: dict[Path, str] = {}

  def enter(path: Path, above: tuple[str, ...], linked: set[str]) -> Folder:
    folder, own = Folder(path), os.path.realpath(path)
    try:
      entries = sorted(path.iterdir())
    except OSError:
      left_out[path] = FORBIDDEN
      return folder
    for entry in entries:
      if _is_hidden(entry):
        left_out.update(dict.fromkeys(_files(entry), HIDDEN))
      elif entry.is_dir():
        real = os.path.realpath(entry)
        if real in (*above, own) or (entry.is_symlink() and real in linked):
          left_out[entry] = LOOP
          continue
        # Two categories can have folders of the same target in them.
        seen = linked if above else set()
        if entry.is_symlink():
          seen.add(real)
        folder.folders.append(enter(entry, (*above, own), seen))
      elif reason := why_no_image(entry):
        left_out[entry] = reason
      else:
        folder.images.append(entry)
    return folder

  return enter(root, (), set()), left_out


def why_no_image(path: Path) -> str:
  """Returns why a file, by its name or content, is no image; '' if it is one.

  Args:
    path: A file, or a link to one.
  """
  suffix = path.suffix.lower()
  try:
    if not path.exists():
      return NOTHING
    if not path.is_file():
      return NO_FILE
    if suffix in EXTENSIONS:
      return ''
    if suffix in _RAW:
      return UNREAD
    decoding.decode(path, lambda image: None)
  except OSError:
    return FORBIDDEN
  except ValueError as error:
    if not isinstance(error.__cause__, UnidentifiedImageError):
      return ''  # An image, of which it is told when it is read what is wrong.
    known = suffix in Image.registered_extensions()
    return UNREAD if known and suffix not in _DOCUMENTS else NO_IMAGE
  return ''


def repeated(paths: Iterable[Path]) -> dict[Path, Path]:
  """Returns further names of files that links give several names to.

  Args:
    paths: Of files that are there.

  Returns:
    The first name of each file that has further ones, by each of these.
  """
  first: dict[object, Path] = {}
  again = {}
  for path in paths:
    known = first.setdefault(identity(path), path)
    if known != path:
      again[path] = known
  return again


def may_be_image(path: Path) -> bool:
  """Returns whether a file that was left out is an image by its name."""
  suffix = path.suffix.lower()
  if suffix in _DOCUMENTS:
    return False
  return suffix in _RAW or suffix in Image.registered_extensions()


def masks_beside(images: Iterable[Path]) -> set[Path]:
  """Returns images that are called as another one beside them, and `_mask`."""
  images = list(images)
  known = {image.with_suffix('') for image in images}
  return {
    image
    for image in images
    if image.stem.lower().endswith('_mask')
    and image.with_name(image.stem[: -len('_mask')]) in known
  }


def identity(path: Path) -> object:
  """Returns what two names of one file have in common."""
  found = path.stat()
  return (found.st_dev, found.st_ino) if found.st_ino else path.resolve()


def _is_hidden(path: Path) -> bool:
  return path.name.startswith('.') or path.name.lower() in _SYSTEM


def _files(path: Path) -> Iterator[Path]:
  """Yields a file, or all files below a folder; no links are followed."""
  if path.is_symlink() or not path.is_dir():
    yield path
    return
  for folder, _, names in os.walk(path):
    yield from (Path(folder, name) for name in names)
