"""Data sets that TFDS has prepared, as categories."""

import contextlib
import functools
import io
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import tensorflow_datasets as library

from simplenet_jax.console import Board
from simplenet_jax.data import decoding, images
from simplenet_jax.data.builders import ALL, BUILDERS, LABELS, Builder
from simplenet_jax.data.category import Category, Sample
from simplenet_jax.data.images import EmbeddedImage


def builder(dataset: str, config: str, tfds_dir: str = '') -> Builder:
  """Returns a TFDS builder.

  Args:
    dataset: A key of `BUILDERS`.
    config: A category, or what else the data set has.
    tfds_dir: Where prepared data sets lie; empty: TFDS's own place.

  Raises:
    ValueError: If what is prepared is damaged.
  """
  place = str(Path(tfds_dir).expanduser()) if tfds_dir else None
  with _told(f'{place or "what TFDS prepared"}: {dataset}/{config}'):
    return BUILDERS[dataset](config=config, data_dir=place)


def choose(dataset: str, names: Sequence[str]) -> list[str]:
  """Returns the configs to prepare.

  Args:
    dataset: A key of `BUILDERS`.
    names: Those wanted; empty: `all`, or where there is none every one.

  Raises:
    ValueError: If there is no such config.
  """
  known = _configs(dataset)
  _check(dataset, names, known)
  return list(names) or [ALL] * (ALL in known) or known


def prepare(found: Builder, manual: Path) -> None:
  """Prepares one config, whole or not at all.

  Args:
    found: Its builder.
    manual: TFDS's manual directory.

  Raises:
    ValueError: If its files are missing or not what they should be, or
      something half-made is in its place.
  """
  if found.data_path.exists():
    raise ValueError(
      f'{found.data_path} is half-made; delete it and start again'
    )
  download = library.download.DownloadConfig(manual_dir=manual)
  try:
    found.download_and_prepare(download_config=download)
  # TFDS says in many ways that files are missing.
  except Exception as error:
    raise ValueError(f'{found.info.full_name}: {error}') from error


def is_ready(found: Builder) -> bool:
  """Returns whether a builder's files are there, by its own record of them."""
  return found.data_path.exists() and {'train', 'test'} <= {*found.info.splits}


def find_categories(
  dataset: str, tfds_dir: str = '', names: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Lists the images of a prepared data set's categories.

  Categories asked for by name are taken from their own configs where these are
  prepared, else from `all`. The records are read through once, for the names
  and sizes in them.

  Args:
    dataset: A key of `BUILDERS`.
    tfds_dir: Where prepared data sets lie; empty: TFDS's own place.
    names: The categories wanted; empty for all that are prepared.

  Returns:
    The categories, in the order of the data set.

  Raises:
    FileNotFoundError: If one is not prepared.
    ValueError: If there is no such data set or category, or its files are
      damaged.
  """
  if dataset not in BUILDERS:
    raise ValueError(
      f'--config.data.dataset is {dataset!r}, none that TFDS can prepare; '
      f'choose one of {", ".join(BUILDERS)} or --config.data.source=folder'
    )
  every = {
    config: builder(dataset, config, tfds_dir) for config in _configs(dataset)
  }
  known = [config for config in every if config != ALL]
  _check(dataset, names, known)
  ready = [config for config, found in every.items() if is_ready(found)]
  wanted = [name for name in known if not names or name in names]
  own = [name for name in wanted if name in ready]
  if ALL in ready and not (names and own == wanted):
    found = _categories(every[ALL])
    return tuple(one for one in found if one.name in wanted)
  if not own or (names and own != wanted):
    missing = [name for name in wanted if name not in ready]
    command = f'python -m simplenet_jax.prepare --dataset={dataset}'
    if tfds_dir:
      command += f' --tfds_dir={shlex.quote(str(tfds_dir))}'
    raise FileNotFoundError(
      f'{every[missing[0]].data_path.parents[2]}: {dataset} is not prepared '
      f'there ({", ".join(missing)}); prepare it ({command}) or name another '
      'place with --config.data.tfds_dir'
    )
  return tuple(_categories(every[name])[0] for name in own)


def _configs(dataset: str) -> list[str]:
  return [one.name for one in BUILDERS[dataset].BUILDER_CONFIGS]


def _check(dataset: str, names: Sequence[str], known: Sequence[str]) -> None:
  if unknown := sorted(set(names) - set(known)):
    raise ValueError(
      f'{dataset} has no {", ".join(unknown)}; there are {", ".join(known)}'
    )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
  """Puts TFDS's errors, of many kinds, into one line."""
  try:
    yield
  except Exception as error:
    said = ' '.join(str(error).split())[:200] or type(error).__name__
    raise ValueError(
      f'{what} is damaged or half-made ({said}); delete it and prepare it '
      'again (python -m simplenet_jax.prepare)'
    ) from error


def _categories(prepared: Builder) -> list[Category]:
  """Lists the categories in one builder's files."""
  found = {}
  with _told(str(prepared.data_path)), Board() as board:
    for split in ('train', 'test'):
      for name, sample in _samples(prepared, split, board):
        found.setdefault(name, {'train': [], 'test': []})[split].append(sample)
  return [
    Category(name, tuple(one.path for one in of['train']), tuple(of['test']))
    for name, of in found.items()
  ]


def _samples(
  prepared: Any, split: str, board: Board
) -> Iterator[tuple[str, Sample]]:
  features = prepared.info.features
  parts = {'image', 'mask'} & {*features}
  encoded = {part: library.decode.SkipDecoding() for part in parts}
  source = prepared.as_data_source(split, decoders=encoded)
  total, name = len(source), f'{prepared.data_path.parent.name}, {split}'
  origin = str(prepared.data_path)

  def embedded(index: int, part: str, place: PurePosixPath) -> EmbeddedImage:
    read = functools.partial(_read, source, index, part)
    content = example[part]
    told = f'{origin}: {place}'
    header = decoding.decode(io.BytesIO(content), images.viewed, told)
    return EmbeddedImage(place, origin, read, len(content), header.size)

  for index in range(total):
    board.show(name, index, total, f'{index} of {total} read')
    example = source[index]
    category = features['category'].int2str(example['category'])
    defect = example['defect'].decode()
    path = PurePosixPath(category, example['filename'].decode())
    masks = ()
    if LABELS[example['label']] == 'anomalous' and 'mask' in parts:
      place = f'{category}/ground_truth/{defect}/{path.stem}_mask.png'
      masks = (embedded(index, 'mask', PurePosixPath(place)),)
    yield category, Sample(embedded(index, 'image', path), defect, masks)
  board.end(name)


def _read(source: Any, index: int, part: str) -> bytes:
  return source[index][part]
