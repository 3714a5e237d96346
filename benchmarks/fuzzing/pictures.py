"""Hostile images and hostile names."""

import io
import os
import pathlib
import struct
import zlib
from random import Random

import numpy as np
from PIL import Image, PngImagePlugin

from benchmarks.fuzzing import mutations

_FORMATS = (
  *('PNG', 'JPEG', 'BMP', 'TIFF', 'WEBP', 'GIF', 'PPM', 'TGA', 'ICO'),
  *('JPEG2000', 'EPS', 'PDF'),
)
_MODES = (
  *('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'I;16', 'I', 'F'),
  'LAB',
)
SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
_SIDES = (1, 2, 3, 7, 31, 64, 100, 257)
_PIECES = (
  'a', 'ü', '日本', '😀', '\u202egnp', 'e\u0301', ' ', '  ', '.', '..', '-',
  '=1+1', '@SUM(A1)', '+49', '"', "'", ',', ';', '\n', '\r', '\t', '\\', '%',
  '<b>', '</script>', '<img src=x onerror=alert(1)>', '&amp;', '{{7*7}}',
  '[red]', '[/]', '$HOME', '`id`', '*', '?', '[a]', 'NUL', '\udcff', '\x1b[2J',
)  # fmt: skip


def name(chance: Random, suffix: str = '') -> str:
  """Returns a file name that trips what does not escape or quote it."""
  return path(chance, suffix).replace('/', '')


def path(chance: Random, suffix: str = '') -> str:
  """Returns such a name that may be in a folder of such a name."""
  pieces = chance.choices(_PIECES, k=chance.choice((1, 1, 2, 3, 5)))
  if chance.random() < 0.03:
    pieces = ['n' * (240 - len(suffix))]
  return (''.join(pieces).strip('.') or 'x') + suffix


def suffix(chance: Random) -> str:
  """Returns how an image's name may end, whatever it is."""
  found = chance.choice(SUFFIXES)
  return found.upper() if chance.random() < 0.2 else found


def image(
  chance: Random, mode: str | None = None, side: int | None = None
) -> Image.Image:
  """Returns an image of a mode and a side, or of any that some format knows."""
  mode = mode or chance.choice(_MODES)
  rng = np.random.default_rng(chance.getrandbits(32))
  height, width = (side or chance.choice(_SIDES) for _ in range(2))
  pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
  gray = pixels[..., 0]
  match mode:
    case 'I;16':
      return Image.fromarray(gray.astype(np.uint16) * chance.choice((1, 257)))
    case 'I':
      return Image.fromarray(gray.astype(np.int32) * chance.choice((-1, 9999)))
    case 'F':
      return Image.fromarray(gray.astype(np.float32) / chance.choice((255, -1)))
    case 'LAB':
      return Image.frombytes('LAB', (width, height), pixels.tobytes())
  return Image.fromarray(pixels).convert(mode)


def encoded(chance: Random, side: int | None = None) -> bytes:
  """Returns an image file's content, whole and of any format and mode."""
  form, picture = chance.choice(_FORMATS), image(chance, None, side)
  file, more = io.BytesIO(), {}
  if form in ('PNG', 'JPEG', 'WEBP', 'TIFF') and chance.random() < 0.3:
    more['exif'] = Image.Exif()
    more['exif'][0x0112] = chance.randrange(10)
  if form in ('PNG', 'GIF', 'WEBP', 'TIFF') and chance.random() < 0.2:
    more |= {'save_all': True, 'append_images': [picture.rotate(180)]}
  if form == 'PNG' and chance.random() < 0.1:
    more['pnginfo'] = PngImagePlugin.PngInfo()
    more['pnginfo'].add_text('k', 'x' * 2_000_000, zip=True)
  try:
    picture.save(file, form, **more)
  except (OSError, ValueError, KeyError):  # Not all can be written.
    image(chance, 'RGB', side).save(file, 'PNG')
  return file.getvalue()


def vast(chance: Random) -> bytes:
  """Returns a PNG of a few kilobytes that claims to be, or is, vast."""
  side = chance.choice((9_000, 11_000, 13_300, 30_000, 2**31 - 1))
  height, width = chance.choice(((side, side), (1, side), (side, 1), (0, side)))
  depth, colour = chance.choice(((1, 0), (8, 0), (8, 2), (16, 2), (16, 6)))
  line = 1 + (width * depth * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8
  # What is claimed is there only where that is written in no time.
  real = line * height if line * height < 2e8 else 10_000
  header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
  pixels, content = zlib.compress(bytes(real), 1), b'\x89PNG\r\n\x1a\n'
  for kind, body in ((b'IHDR', header), (b'IDAT', pixels), (b'IEND', b'')):
    checksum = zlib.crc32(kind + body)
    content += struct.pack('>I', len(body)) + kind + body
    content += struct.pack('>I', checksum)
  return content


def hostile(chance: Random, side: int | None = None) -> bytes:
  """Returns an image file's content that may be anything; see `image`."""
  draw = chance.random()
  if draw < 0.02:
    return vast(chance)
  content = encoded(chance, side)
  return content if draw < 0.3 else mutations.mutated(chance, content)


def entangle(chance: Random, folder: pathlib.Path) -> None:
  """Puts links into a folder: in circles, to nothing, to devices; a pipe."""
  ways = {
    'circle': folder,
    'above': folder.parent,
    'itself.png': 'itself.png',
    'nowhere.png': 'nothing/there.png',
    'device.png': '/dev/zero',
    'terminal.png': '/dev/tty',
    'folder.png': '.',
  }
  for link in chance.sample(list(ways), chance.randrange(1, 4)):
    (folder / link).symlink_to(ways[link])
  if chance.random() < 0.3:
    os.mkfifo(folder / 'pipe.png')
