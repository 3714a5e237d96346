"""Every file below a folder: which are images, and what folders' names say.

Names tell images of the usual suffixes; other files are opened, and those that
`decoding` can read are images too. Whether an image is whole is not known yet.
"""

import dataclasses
import functools
import itertools
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from simplenet_jax.data import decoding
from simplenet_jax.files import ASSETS, read_json

# Taken for images by their names alone, until they are read.
EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
WORDS = read_json(ASSETS / 'names.json')
_SYSTEM, _HINTS = WORDS['system_names'], WORDS['hints']
_DOCUMENTS = WORDS['document_suffixes']  # What Pillow knows beside pictures.
_UNREAD = WORDS['unread_suffixes']  # It does not know them, or a preview alone.

# Why a file is left out.
HIDDEN = "hidden, or a system's own"
HIDDEN_IMAGE = 'a hidden image'
NOTHING = 'a link to nothing'
LOOP = 'a link to a folder that is read already'
NO_FILE = 'no file but a pipe, a socket or a device'
NO_IMAGE = 'no image by its content'
UNREAD = 'a kind of image that is not read; save it as PNG or JPEG'
FORBIDDEN = 'may not be read'
TWICE = 'another name of an image that is used already'

# What a folder holds by its name: its role.
GOOD, BAD, MASK = 'good', 'bad', 'mask'
TRAIN, TEST, VALIDATION = 'train', 'test', 'validation'

# Names without case, separators and words like 'images'.
_ROLES = {n: role for role, names in WORDS['roles'].items() for n in names}

# The roles of folders that a user names, each perhaps with those above it.
Names = Mapping[str, str]


def parse_names(normal: str = '', defects: str = '', masks: str = '') -> Names:
  """Returns the roles of the names that flags give, separated by commas."""
  return {
    name.strip(' /'): role
    for role, given in ((GOOD, normal), (BAD, defects), (MASK, masks))
    for name in given.split(',')
    if name.strip(' /')
  }


def role_of(folder: Path, names: Names | None = None) -> str:
  """Returns what a folder holds by its name; '' if the name does not say."""
  for name, role in (names or {}).items():
    if ends_with(folder, name):
      return role
  words = _words(folder.name)
  if len(words) > 1 and words[-1] in ('mask', 'masks'):  # Such as hole_mask.
    return MASK
  suffixes = '(?<=.)(dir|folder|images?|imgs|parts|samples)+$'
  return _ROLES.get(re.sub(suffixes, '', ''.join(words)), '')


@dataclasses.dataclass
class Folder:
  """A folder, its role by its name (or ''), and what is in it, sorted."""

  path: Path
  name: str  # Its own, also of a relative path such as '.'; links keep theirs.
  role: str = ''
  images: list[Path] = dataclasses.field(default_factory=list)
  folders: list['Folder'] = dataclasses.field(default_factory=list)

  def below(self) -> Iterator['Folder']:
    """Yields this folder and all in it, at any depth."""
    yield self
    for folder in self.folders:
      yield from folder.below()

  def inside(self, *roles: str) -> list['Folder']:
    """Returns the folders in it of some roles."""
    return [folder for folder in self.folders if folder.role in roles]

  def outside(self, *roles: str) -> list['Folder']:
    """Returns the folders in it of any other role."""
    return [folder for folder in self.folders if folder.role not in roles]

  def all_images(self, *without: str) -> list[Path]:
    """Returns the images in it and below, without folders of some roles."""
    below = (one.all_images(*without) for one in self.outside(*without))
    return [*self.images, *itertools.chain.from_iterable(below)]


def filled(folders: Iterable[Folder]) -> list[Folder]:
  """Returns the folders that have images in them or below."""
  return [one for one in folders if one.all_images()]


def listed(folders: Iterable[Folder]) -> str:
  """Returns folders' names for a message."""
  return ', '.join(one.name for one in folders)


def read(
  root: Path, names: Names | None = None
) -> tuple[Folder, dict[Path, str]]:
  """Returns a folder, with all below it, and why files in it are no images.

  Below a link, each folder is entered once by further links.
  """
  left_out: dict[Path, str] = {}

  def enter(path: Path, above: tuple[str, ...], linked: set[str]) -> Folder:
    name = os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119
    folder = Folder(path, name, role_of(path, names))
    above = (*above, os.path.realpath(path))
    try:
      entries = sorted(path.iterdir())
    except OSError:
      left_out[path] = FORBIDDEN
      return folder
    for entry in entries:
      if entry.name.startswith('.') or entry.name.lower() in _SYSTEM:
        deep = entry.is_dir() and not entry.is_symlink()
        for file in (entry, *(entry.rglob('*') if deep else ())):
          image = file.suffix.lower() in (*EXTENSIONS, *_UNREAD)
          if file.is_symlink() or not file.is_dir():
            left_out[file] = HIDDEN_IMAGE if image else HIDDEN
      elif not entry.is_dir():
        if why := why_no_image(entry):
          left_out[entry] = why
        else:
          folder.images.append(entry)
      else:
        real, link = os.path.realpath(entry), entry.is_symlink()
        if real in above or (link and real in linked):
          left_out[entry] = LOOP
          continue
        below = linked or set()
        below |= {real} if link else set()
        folder.folders.append(enter(entry, above, below))
    return folder

  return enter(root, (), set()), left_out


def why_no_image(path: Path) -> str:
  """Returns why a file, by its name or content, is no image, or ''."""
  suffix = path.suffix.lower()
  try:
    if not path.is_file():
      return NO_FILE if path.exists() else NOTHING
    if suffix in _UNREAD:
      return UNREAD
    if suffix not in EXTENSIONS:
      decoding.decode(path, lambda image: None)
  except OSError:
    return FORBIDDEN
  except ValueError as error:
    # What else is wrong with an image is told when it is read.
    if isinstance(error.__cause__, UnidentifiedImageError):
      known = suffix in Image.EXTENSION and suffix not in _DOCUMENTS
      return UNREAD if known else NO_IMAGE
  return ''


def repeated(paths: Iterable[Any]) -> dict[Path, Path]:
  """Returns the first name of each file, by its further names through links."""
  first, again = {}, {}
  for path in paths:
    found = path.stat()
    known = first.setdefault((found.st_dev, found.st_ino), path)
    if path != known:
      again[path] = known
  return again


def masks_beside(images: Collection[Path]) -> set[Path]:
  """Returns images that are called as another one beside them, and `_mask`."""
  known = {image.with_suffix('') for image in images}
  named = [i for i in images if i.stem.lower().endswith('_mask')]
  return {i for i in named if i.with_name(i.stem[: -len('_mask')]) in known}


def choose(
  where: object, names: Sequence[str], known: Iterable[str]
) -> list[str]:
  """Returns the known names that are chosen, or all; refuses others."""
  by_form = {nfc(name): name for name in known}
  wanted = {nfc(name) for name in names}
  if unknown := sorted(wanted - by_form.keys()):
    has = ', '.join(by_form.values())
    raise ValueError(f'{where} has no {", ".join(unknown)}; there are {has}')
  return [name for form, name in by_form.items() if form in wanted or not names]


nfc = functools.partial(unicodedata.normalize, 'NFC')


def same(name: str) -> str:
  """Returns what names have in common that differ in case or Unicode form."""
  return nfc(name).casefold()


def hints(folder: Folder) -> bool:
  """Returns whether a folder's name has a word in it that names a role."""
  return any(word in (*_ROLES, *_HINTS) for word in _words(folder.name))


def ends_with(folder: Path, name: str) -> bool:
  """Returns whether a folder has a name, perhaps with those above it."""
  return nfc(f'/{folder.as_posix()}').endswith(nfc(f'/{name}'))


def _words(name: str) -> list[str]:
  plain = unicodedata.normalize('NFKC', name).casefold()
  return [word for word in re.split(r'[\s_.-]+', plain) if word]
