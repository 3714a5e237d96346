"""A generated demo data set in MVTec AD's layout; nothing to download.

Three textures and three objects, drawn with NumPy: good parts to train on and
to set thresholds by, good and defective parts to test on, exact masks.
"""

import json
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import scipy.ndimage

from simplenet_jax.demo import drawing, parts
from simplenet_jax.files import read_json

# Categories are functions of `parts`. Their defects are the part's own, or
# functions of `drawing`, which lie on any surface.
FLAWS: Mapping[str, tuple[str, ...]] = {
  'weave': ('cut', 'snag', 'stain', 'thread'),
  'perforated': ('blocked', 'scratch', 'stain', 'torn'),
  'wood': ('colour', 'hole', 'knot', 'scratch'),
  'gasket': ('colour', 'crack', 'torn', 'unpunched'),
  'capsule': ('crack', 'hole', 'misprint', 'squeezed'),
  'connector': ('bent', 'crack', 'missing', 'short', 'stain'),
}
MARKER = 'demo.json'  # In the root of every complete set: its parameters.

_VERSION = 1  # Counts up when the same parameters give other pictures.
# A pixel is defective if a channel changed by more than this: about the
# deviation of the sensor's noise, under which nothing can be seen.
_VISIBLE = 0.02
_LEAST_AREA = 0.0015  # Of a defect, as a share of the picture.
_ATTEMPTS = 20


def generate(
  root: Path,
  *,
  seed: int = 0,
  categories: Sequence[str] = (*FLAWS,),
  train: int = 48,
  validation: int = 0,
  good: int = 12,
  defective: int = 24,
  size: int = 192,
) -> None:
  """Writes the demo data set into a folder, or finds it there already.

  Every picture is drawn from a generator of its own, so more pictures or
  other categories leave the others as they are. The set appears at once, when
  it is complete; a `root` that holds something else is refused. Numbers are of
  each category's pictures: good ones to train on, for thresholds and to test
  on, and defective ones, spread evenly over the kinds of defect.
  """
  wanted = {'version': _VERSION, 'categories': sorted({*categories})}
  wanted |= {'seed': seed, 'train': train, 'validation': validation}
  wanted |= {'good': good, 'defective': defective, 'size': size}
  if _complete(root, wanted):
    return
  root.parent.mkdir(parents=True, exist_ok=True)
  prefix, jobs = f'.{root.name}.', []
  with tempfile.TemporaryDirectory(prefix=prefix, dir=root.parent) as aside:
    made = Path(aside) / 'set'
    for category in wanted['categories']:
      splits = {'train': train, 'validation': validation, 'test': good}
      for split, count in splits.items():
        jobs += [(category, split, '', index) for index in range(count)]
      flaws = FLAWS[category]
      for index in range(defective):
        number, kind = divmod(index, len(flaws))
        jobs.append((category, 'test', flaws[kind], number))
    # NumPy and Pillow leave the interpreter lock alone while they work.
    with futures.ThreadPoolExecutor() as pool:
      list(pool.map(lambda job: _write(made, seed, size, job), jobs))
    (made / MARKER).write_text(json.dumps(wanted, indent=2) + '\n')
    try:
      made.replace(root)
    except OSError:
      # Another process may have put the same set there meanwhile.
      if not _complete(root, wanted):
        raise


def draw(
  seed: int, category: str, split: str, flaw: str, index: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws one picture; it depends on nothing but the arguments.

  Returns the picture, [size, size, 3] uint8 RGB, and the mask of the pixels
  that the flaw altered, [size, size] bool: outside of it the picture is, bit by
  bit, that of the good part under the same light and sensor noise.
  """
  names = (zlib.crc32(name.encode()) for name in (category, split, flaw))
  sequence = np.random.SeedSequence([seed, *names, index])
  part_key, light_key, flaw_key, noise_key = sequence.spawn(4)
  grid, flaw_rng = drawing.Grid(size), np.random.default_rng(flaw_key)

  def picture(kind: str) -> np.ndarray:
    rng = np.random.default_rng(part_key)
    surface = getattr(parts, category)(rng, grid, kind, flaw_rng)
    if damage := getattr(drawing, kind, None):
      damage(flaw_rng, grid, surface)
    return drawing.photograph(np.random.default_rng(light_key), grid, surface)

  image, mask = picture(''), np.zeros((size, size), bool)
  if flaw:
    image, mask = _spoil(image, lambda: picture(flaw))
  # As a noisy 8-bit sensor records it.
  rng = np.random.default_rng(noise_key)
  noise = rng.standard_normal(image.shape, dtype=np.float32)
  exposed = image + (0.005 + 0.012 * np.sqrt(image)) * noise
  return np.round(255 * np.clip(exposed, 0, 1)).astype(np.uint8), mask


def _complete(root: Path, wanted: dict[str, Any]) -> bool:
  """Returns whether the wanted set is there; raises if something else is."""
  if not root.exists() or (root.is_dir() and not any(root.iterdir())):
    return False
  marker = root / MARKER
  found = read_json(marker, 'remove its folder') if marker.is_file() else None
  if found == wanted:
    return True
  raise ValueError(
    f'{root}: holds {found or "something else"}, expected nothing or {wanted}; '
    'choose another folder or remove this one'
  )


def _write(root: Path, seed: int, size: int, job: tuple[str, str, str, int]):
  category, split, flaw, i = job
  image, mask = draw(seed, *job, size)
  pictures = {f'{split}/{flaw or "good"}/{i:03}': image}
  if flaw:
    pictures[f'ground_truth/{flaw}/{i:03}_mask'] = mask * np.uint8(255)
  for name, pixels in pictures.items():
    path = root / category / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


def _spoil(good: np.ndarray, flawed: Callable[[], np.ndarray]):
  """Draws flaws until one is large enough to be seen, and its mask."""
  for _ in range(_ATTEMPTS):
    bad = flawed()
    # Without gaps and specks.
    mask = np.abs(bad - good).max(-1) > _VISIBLE
    mask = scipy.ndimage.binary_opening(mask, np.ones((2, 2), bool))
    mask = np.pad(mask, 2, 'edge')
    mask = scipy.ndimage.binary_closing(mask, iterations=2)[2:-2, 2:-2]
    mask = np.asarray(scipy.ndimage.binary_fill_holes(mask), bool)
    if mask.mean() >= _LEAST_AREA:
      return np.where(mask[..., None], bad, good), mask
  raise AssertionError(f'no visible flaw in {_ATTEMPTS} attempts')
