"""Data sets that TFDS has prepared, as categories."""

import contextlib
import functools
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import tensorflow_datasets as tfds

from simplenet_jax.console import Board
from simplenet_jax.data import images
from simplenet_jax.data.builders import base
from simplenet_jax.data.builders.mvtec_ad import ALL
from simplenet_jax.data.folder import Category, Sample
from simplenet_jax.data.record import Record

# Of our data sets, the names that they have in TFDS.
BUILDERS = {'mvtec_ad': 'mvtec_ad', 'cifar10': 'cifar10_one_class'}


def builder(dataset: str, config: str, tfds_dir: str = '') -> Any:
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
    return tfds.builder(f'{BUILDERS[dataset]}/{config}', data_dir=place)


def configs(dataset: str) -> list[str]:
  """Returns the configs of a data set, by name.

  Raises:
    ValueError: If it is none of ours.
  """
  if dataset not in BUILDERS:
    raise ValueError(
      f'--config.data.dataset is {dataset!r}, none that TFDS can prepare; '
      f'choose one of {", ".join(BUILDERS)} or --config.data.source=folder'
    )
  return list(tfds.builder_cls(BUILDERS[dataset]).builder_configs)


def choose(dataset: str, names: Sequence[str]) -> list[str]:
  """Returns the configs to prepare.

  Args:
    dataset: A key of `BUILDERS`.
    names: Those wanted; empty: `all`, or where there is none every one.

  Raises:
    ValueError: If there is no such data set or config.
  """
  known = configs(dataset)
  _check(dataset, names, known)
  return list(names) or [ALL] * (ALL in known) or known


def prepare(found: Any, manual: Path) -> None:
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
  download = tfds.download.DownloadConfig(manual_dir=manual)
  try:
    found.download_and_prepare(download_config=download)
  # TFDS says in many ways that files are missing.
  except Exception as error:
    raise ValueError(f'{found.info.full_name}: {error}') from error


def is_ready(found: Any) -> bool:
  """Returns whether a builder's files are there, by its own record of them."""
  return found.data_path.exists() and {'train', 'test'} <= set(
    found.info.splits
  )


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
  every = {c: builder(dataset, c, tfds_dir) for c in configs(dataset)}
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
    _tell_missing(dataset, tfds_dir, missing, every[missing[0]].data_path)
  return tuple(_categories(every[name])[0] for name in own)


def _check(dataset: str, names: Sequence[str], known: Sequence[str]) -> None:
  if unknown := sorted(set(names) - set(known)):
    raise ValueError(
      f'{dataset} has no {", ".join(unknown)}; there are {", ".join(known)}'
    )


def _tell_missing(
  dataset: str, tfds_dir: str, missing: Sequence[str], path: Path
) -> NoReturn:
  command = f'python -m simplenet_jax.prepare --dataset={dataset}'
  if tfds_dir:
    command += f' --tfds_dir={shlex.quote(str(tfds_dir))}'
  raise FileNotFoundError(
    f'{path.parents[2]}: {dataset} is not prepared there '
    f'({", ".join(missing)}); prepare it ({command}) or name another place '
    'with --config.data.tfds_dir'
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


def _categories(prepared: Any) -> list[Category]:
  """Lists the categories in one builder's files."""
  trained: dict[str, list[Record]] = {}
  tested: dict[str, list[Sample]] = {}
  with _told(str(prepared.data_path)), Board() as board:
    for name, sample in _samples(prepared, 'train', board):
      trained.setdefault(name, []).append(sample.path)
    for name, sample in _samples(prepared, 'test', board):
      tested.setdefault(name, []).append(sample)
  return [
    Category(name, tuple(train), tuple(tested.get(name, ())))
    for name, train in trained.items()
  ]


def _samples(
  prepared: Any, split: str, board: Board
) -> Iterator[tuple[str, Any]]:
  features = prepared.info.features
  encoded = {
    name: tfds.decode.SkipDecoding()
    for name in ('image', 'mask')
    if name in features
  }
  source = prepared.as_data_source(split, decoders=encoded)
  total, name = len(source), f'{prepared.data_path.parent.name}, {split}'
  for index in range(total):
    board.show(name, index, total, f'{index} of {total} read')
    example = source[index]
    category = features['category'].int2str(example['category'])
    defect = example['defect'].decode()
    filename = PurePosixPath(example['filename'].decode())

    def record(part: str, place: PurePosixPath, example=example, index=index):
      content, origin = example[part], str(prepared.data_path)
      return Record(
        place,
        origin,
        functools.partial(_read, source, index, part),
        len(content),
        images.encoded_size(content, place, origin),
      )

    masks = ()
    if example['label'] == base.LABELS.index('anomalous') and 'mask' in encoded:
      place = f'ground_truth/{defect}/{filename.stem}_mask.png'
      masks = (record('mask', PurePosixPath(category, place)),)
    image = record('image', PurePosixPath(category, filename))
    yield category, Sample(image, defect, masks)
  board.end(name)


def _read(source: Any, index: int, part: str) -> bytes:
  return source[index][part]
