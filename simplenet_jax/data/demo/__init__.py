"""A procedural demo data set in MVTec AD's layout; nothing to download.

Three textures and three objects, drawn with NumPy: good parts to train on and
to set thresholds by, good and defective parts to test on, exact masks.

    from simplenet_jax.data import demo
    demo.generate(pathlib.Path('data/demo'))
"""

import concurrent.futures
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from simplenet_jax.data.demo import pictures

CATEGORIES: tuple[str, ...] = tuple(pictures.PARTS)

# In the root of every complete set: what it was made from.
MARKER = 'demo.json'

# Counts up whenever the same parameters give other pictures.
_VERSION = 1


class _Picture(NamedTuple):
  category: str
  split: str
  flaw: str
  number: int


def generate(
  root: pathlib.Path,
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
    root: folder of the set. Each category has train/good/000.png,
      validation/good/000.png, test/good/000.png, test/<defect>/000.png, all
      RGB, and ground_truth/<defect>/000_mask.png, 255 on every pixel that the
      defect altered and 0 elsewhere.
    seed: another seed gives other pictures, >= 0.
    categories: which of `CATEGORIES`.
    train: good training pictures per category.
    validation: good pictures per category that are not trained on.
    good: good test pictures per category.
    defective: defective test pictures per category, spread evenly over its
      kinds of defect.
    size: side of the pictures, in pixels.
    workers: threads to draw with; by default one per core.

  Raises:
    ValueError: a category is unknown, a number is out of range, or `root`
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
    made = pathlib.Path(aside) / 'set'
    _write_set(made, wanted, workers)
    try:
      made.replace(root)
    except OSError:
      # Another process may have put the same set there meanwhile.
      if not _complete(root, wanted):
        raise


def _complete(root: pathlib.Path, wanted: dict[str, Any]) -> bool:
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


def _write_set(
  root: pathlib.Path, parameters: dict[str, Any], workers: int | None
) -> None:
  jobs = list(_pictures(parameters))
  for job in jobs:
    image_path, mask_path = _paths(root, job)
    image_path.parent.mkdir(parents=True, exist_ok=True)
    if job.flaw:
      mask_path.parent.mkdir(parents=True, exist_ok=True)
  seed, size = parameters['seed'], parameters['size']

  def write(job: _Picture) -> None:
    image, mask = pictures.draw(seed, *job, size)
    image_path, mask_path = _paths(root, job)
    PIL.Image.fromarray(image).save(image_path)
    if job.flaw:
      PIL.Image.fromarray(mask * np.uint8(255)).save(mask_path)

  # NumPy and Pillow leave the interpreter lock alone while they work.
  with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
    for _ in pool.map(write, jobs):
      pass
  (root / MARKER).write_text(json.dumps(parameters, indent=2) + '\n')


def _pictures(parameters: dict[str, Any]) -> Iterator[_Picture]:
  for category in parameters['categories']:
    for index in range(parameters['train']):
      yield _Picture(category, 'train', '', index)
    for index in range(parameters['validation']):
      yield _Picture(category, 'validation', '', index)
    for index in range(parameters['good']):
      yield _Picture(category, 'test', '', index)
    flaws = pictures.FLAWS[category]
    for i in range(parameters['defective']):
      yield _Picture(category, 'test', flaws[i % len(flaws)], i // len(flaws))


def _paths(
  root: pathlib.Path, job: _Picture
) -> tuple[pathlib.Path, pathlib.Path]:
  """Returns where a picture and its mask go."""
  kind = job.flaw or 'good'
  image = root / job.category / job.split / kind / f'{job.number:03}.png'
  mask = image.parents[2] / 'ground_truth' / kind / f'{job.number:03}_mask.png'
  return image, mask
