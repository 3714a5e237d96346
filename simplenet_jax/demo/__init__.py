"""A generated demo data set in MVTec AD's layout; nothing to download.

Three textures and three objects, drawn with NumPy: good parts to train on and
to set thresholds by, good and defective parts to test on, exact masks.

    from simplenet_jax import demo
    demo.generate(pathlib.Path('data/demo'))
"""

import concurrent.futures
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import scipy.ndimage

from simplenet_jax.demo import canvas, defects, parts
from simplenet_jax.demo.canvas import Flaw

# Categories are functions of `parts`. Their defects are the part's own, or
# functions of `defects`, which lie on any surface.
FLAWS: Mapping[str, tuple[str, ...]] = {
  'weave': ('cut', 'snag', 'stain', 'thread'),
  'perforated': ('blocked', 'scratch', 'stain', 'torn'),
  'wood': ('colour', 'hole', 'knot', 'scratch'),
  'gasket': ('colour', 'crack', 'torn', 'unpunched'),
  'capsule': ('crack', 'hole', 'misprint', 'squeezed'),
  'connector': ('bent', 'crack', 'missing', 'short', 'stain'),
}
CATEGORIES: tuple[str, ...] = tuple(FLAWS)
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
  categories: Sequence[str] = CATEGORIES,
  train: int = 48,
  validation: int = 0,
  good: int = 12,
  defective: int = 24,
  size: int = 192,
  workers: int | None = None,
) -> None:
  """Writes the demo data set, or finds it there already.

  Every picture is drawn from a generator of its own, so more pictures or
  other categories leave the others as they are. The set appears under `root`
  at once, when it is complete.

  Args:
    root: The set's folder. Each category has train/good/000.png,
      validation/good/000.png, test/good/000.png, test/<defect>/000.png, all
      RGB, and ground_truth/<defect>/000_mask.png, 255 on every pixel that the
      defect altered and 0 elsewhere.
    seed: Another seed gives other pictures.
    categories: Some of `CATEGORIES`.
    train: Good training pictures per category.
    validation: Good pictures per category that are not trained on.
    good: Good test pictures per category.
    defective: Defective ones, spread evenly over the kinds of defect.
    size: The side of the pictures, in pixels.
    workers: Threads; by default one per core.

  Raises:
    ValueError: If a category is unknown, a number is out of range, or `root`
      holds something else.
  """
  unknown = sorted(set(categories) - set(CATEGORIES))
  if unknown or not categories:
    raise ValueError(
      f'categories: found {unknown or "none"}, expected some of '
      f'{", ".join(CATEGORIES)}'
    )
  wanted = {
    'version': _VERSION,
    'seed': seed,
    'categories': sorted(set(categories)),
    'train': train,
    'validation': validation,
    'good': good,
    'defective': defective,
    'size': size,
  }
  least = {'train': 1, 'size': 32}
  for name in ('seed', 'train', 'validation', 'good', 'defective', 'size'):
    bound = least.get(name, 0)
    if wanted[name] < bound:
      raise ValueError(f'{name}: found {wanted[name]}, expected >= {bound}')
  if _complete(root, wanted):
    return
  root.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix=f'.{root.name}.', dir=root.parent
  ) as aside:
    made = Path(aside) / 'set'
    # NumPy and Pillow leave the interpreter lock alone while they work.
    with concurrent.futures.ThreadPoolExecutor(
      workers or os.cpu_count()
    ) as pool:
      list(pool.map(lambda job: _write(made, wanted, *job), _jobs(wanted)))
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

  Returns:
    The picture, [size, size, 3] uint8 RGB, and the mask of the pixels that
    the flaw altered, [size, size] bool: outside of it the picture is, bit by
    bit, that of the good part under the same light and sensor noise.
  """
  names = (zlib.crc32(name.encode()) for name in (category, split, flaw))
  sequence = np.random.SeedSequence([seed, *names, index])
  part_key, light_key, flaw_key, noise_key = sequence.spawn(4)
  grid, flaw_rng = canvas.make_grid(size), np.random.default_rng(flaw_key)

  def picture(kind: str) -> np.ndarray:
    rng = np.random.default_rng(part_key)
    surface = getattr(parts, category)(rng, grid, Flaw(kind, flaw_rng))
    if damage := getattr(defects, kind, None):
      damage(flaw_rng, grid, surface)
    return canvas.photograph(np.random.default_rng(light_key), grid, surface)

  image, mask = picture(''), np.zeros((size, size), bool)
  if flaw:
    image, mask = _spoil(image, lambda: picture(flaw))
  return canvas.expose(np.random.default_rng(noise_key), image), mask


def _complete(root: Path, wanted: dict[str, Any]) -> bool:
  """Returns whether the wanted set is there; raises if something else is."""
  if not root.exists() or (root.is_dir() and not any(root.iterdir())):
    return False
  marker = root / MARKER
  found = json.loads(marker.read_text()) if marker.is_file() else None
  if found == wanted:
    return True
  holds = f'a demo set of {found}' if found else 'something else'
  raise ValueError(
    f'{root}: holds {holds}, expected nothing or a demo set of {wanted}; '
    'choose another folder or remove this one'
  )


def _jobs(parameters: dict[str, Any]) -> Iterator[tuple[str, str, str, int]]:
  """Yields category, split, flaw and number of each picture."""
  for category in parameters['categories']:
    for split, key in (
      ('train', 'train'),
      ('validation', 'validation'),
      ('test', 'good'),
    ):
      for index in range(parameters[key]):
        yield category, split, '', index
    flaws = FLAWS[category]
    for i in range(parameters['defective']):
      yield category, 'test', flaws[i % len(flaws)], i // len(flaws)


def _write(
  root: Path,
  parameters: dict[str, Any],
  category: str,
  split: str,
  flaw: str,
  number: int,
) -> None:
  seed, size = parameters['seed'], parameters['size']
  image, mask = draw(seed, category, split, flaw, number, size)
  path = root / category / split / (flaw or 'good') / f'{number:03}.png'
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(image).save(path)
  if flaw:
    path = root / category / 'ground_truth' / flaw / f'{number:03}_mask.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(mask * np.uint8(255)).save(path)


def _spoil(
  good: np.ndarray, flawed: Callable[[], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """Draws flaws until one is large enough to be seen."""
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
