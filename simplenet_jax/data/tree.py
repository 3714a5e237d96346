"""Every file below a folder: which are images, and what folders' names say.

Names tell images of the usual suffixes; other files are opened, and those that
`decoding` can read are images too. Whether an image is whole is not known yet.
"""

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

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
TWICE = 'another name of an image that is used already'

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

# What a folder holds by its name: its role.
GOOD, BAD, MASK = 'good', 'bad', 'mask'
TRAIN, TEST, VALIDATION = 'train', 'test', 'validation'

# Names without case, separators and words like 'images'.
_NAMES = {
  GOOD: """good goods gut io normal nominal ok okay pass passed healthy flawless
    anomalyfree defectfree noanomaly nodefect nodefects nondefective""",
  BAD: """bad ko ng nio nogood nok notgood notok abnormal anomalies anomalous
    anomaly broken damaged defect defective defects fail failed failure faulty
    flawed reject rejected rejects scrap""",
  MASK: """annot annotation annotations groundtruth gt label labels mask masks
    segmentation segmentations""",
  TRAIN: 'train training',
  TEST: 'test testing tests',
  VALIDATION: 'val valid validation',
}
_ROLES = {
  name: role for role, names in _NAMES.items() for name in names.split()
}
# Words that may name a role, or not.
_HINTS = ('negative', 'negatives', 'positive', 'positives')


@dataclasses.dataclass(frozen=True)
class Names:
  """Names of folders that a user has given, each perhaps with those above it.

  Where there are names of `defects`, no other folder beside a good one holds
  defects.
  """

  normal: tuple[str, ...] = ()
  defects: tuple[str, ...] = ()
  masks: tuple[str, ...] = ()

  @classmethod
  def parse(cls, *given: str) -> 'Names':
    """Reads names separated by commas, in the order of the attributes."""
    return cls(
      *(
        tuple(name.strip().strip('/') for name in names.split(',') if name)
        for names in given
      )
    )

  def role(self, folder: Path) -> str:
    """Returns what a folder holds by its name; '' if the name does not say."""
    for role, names in (
      (GOOD, self.normal),
      (BAD, self.defects),
      (MASK, self.masks),
    ):
      if any(_ends_with(folder, name) for name in names):
        return role
    words = _words(folder.name)
    if len(words) > 1 and words[-1] in ('mask', 'masks'):  # Such as hole_mask.
      return MASK
    plain = ''.join(words)
    for end in ('dir', 'folder', 'images', 'image', 'imgs', 'parts', 'samples'):
      if plain != end:
        plain = plain.removesuffix(end)
    return _ROLES.get(plain, '')

  def unmatched(self, root: 'Folder') -> list[str]:
    """Returns the names that no folder at or below `root` has."""
    folders = [folder.path for folder in root.below()]
    return [
      name
      for name in (*self.normal, *self.defects, *self.masks)
      if not any(_ends_with(folder, name) for folder in folders)
    ]


@dataclasses.dataclass
class Folder:
  """A folder, its role by its name (or ''), and what is in it, sorted.

  Images are such by name or content; hidden folders and a system's are left
  out.
  """

  path: Path
  role: str = ''
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

  def inside(self, *roles: str) -> list['Folder']:
    """Returns the folders in it of some roles."""
    return [folder for folder in self.folders if folder.role in roles]

  def all_images(self, *without: str) -> list[Path]:
    """Returns the images in it and below, without folders of some roles."""
    found = list(self.images)
    for folder in self.folders:
      if folder.role not in without:
        found += folder.all_images(*without)
    return found


def read(
  root: Path, names: Names | None = None
) -> tuple[Folder, dict[Path, str]]:
  """Looks at everything below a folder.

  Links to folders are followed, below each of the root's folders once by a link
  and once by their own name, so that links in circles end.

  Args:
    root: The folder.
    names: What a user says of folders whose names do not tell.

  Returns:
    It, and why which files and links below it are no images that can be used.
  """
  names = names or Names()
  left_out: dict[Path, str] = {}

  def enter(path: Path, above: tuple[str, ...], linked: set[str]) -> Folder:
    folder, own = Folder(path, names.role(path)), os.path.realpath(path)
    try:
      entries = sorted(path.iterdir())
    except OSError:
      left_out[path] = FORBIDDEN
      return folder
    for entry in entries:
      if entry.name.startswith('.') or entry.name.lower() in _SYSTEM:
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
  """Returns why a file, by its name or content, is no image, or ''."""
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
      return ''  # An image; what is wrong with it is told when it is read.
    return UNREAD if may_be_image(path) else NO_IMAGE
  return ''


def may_be_image(path: Path) -> bool:
  """Returns whether a file that was left out is an image by its name."""
  suffix = path.suffix.lower()
  known = suffix in _RAW or suffix in Image.registered_extensions()
  return known and suffix not in _DOCUMENTS


def repeated(paths: Iterable[Path]) -> dict[Path, Path]:
  """Returns the first name of each file, by its further names through links."""
  first: dict[object, Path] = {}
  again = {}
  for path in paths:
    found = path.stat()
    file = (found.st_dev, found.st_ino) if found.st_ino else path.resolve()
    known = first.setdefault(file, path)
    if known != path:
      again[path] = known
  return again


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


def same(name: str) -> str:
  """Returns what names have in common that differ in case or Unicode form."""
  return unicodedata.normalize('NFC', name).casefold()


def hints(folder: Folder) -> bool:
  """Returns whether a folder's name has a word in it that names a role."""
  words = _words(folder.path.name)
  return any(word in _ROLES or word in _HINTS for word in words)


def _words(name: str) -> list[str]:
  plain = unicodedata.normalize('NFKC', name).casefold()
  return [word for word in re.split(r'[\s_.-]+', plain) if word]


def _ends_with(folder: Path, name: str) -> bool:
  wanted = PurePosixPath(unicodedata.normalize('NFC', name)).parts
  found = tuple(unicodedata.normalize('NFC', part) for part in folder.parts)
  return bool(wanted) and found[-len(wanted) :] == wanted


def _files(path: Path) -> Iterator[Path]:
  """Yields a file, or all files below a folder; no links are followed."""
  if path.is_symlink() or not path.is_dir():
    yield path
    return
  for folder, _, names in os.walk(path):
    yield from (Path(folder, name) for name in names)
