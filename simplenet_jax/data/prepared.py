"""Data sets that TFDS has prepared, as categories."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import tensorflow_datasets as tfds

from simplenet_jax.data import images
from simplenet_jax.data.builders import base
from simplenet_jax.data.builders.mvtec_ad import ALL
from simplenet_jax.data.folder import Category, Sample
from simplenet_jax.data.record import Record

# Of our data sets, the names that they have in TFDS.
BUILDERS = {'mvtec_ad': 'mvtec_ad', 'cifar10': 'cifar10_one_class'}


def builder(dataset: str, config: str, data_dir: str = '') -> Any:
  """Returns a TFDS builder.

  Args:
    dataset: A key of `BUILDERS`.
    config: A category, or what else the data set has.
    data_dir: Where prepared data sets lie; empty: TFDS's own place.
  """
  place = str(Path(data_dir).expanduser()) if data_dir else None
  return tfds.builder(f'{BUILDERS[dataset]}/{config}', data_dir=place)


def configs(dataset: str) -> list[str]:
  """Returns the configs of a data set, by name.

  Raises:
    ValueError: If it is none of ours.
  """
  if dataset not in BUILDERS:
    raise ValueError(
      f'the data set {dataset!r} is none that TFDS can prepare; choose one of '
      f'{", ".join(BUILDERS)}'
    )
  return list(tfds.builder_cls(BUILDERS[dataset]).builder_configs)


def find_categories(
  dataset: str, data_dir: str = '', names: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Lists the images of a prepared data set's categories.

  Categories asked for by name are taken from their own configs where these are
  prepared, else from `all`. The records are read through once, for the names
  and sizes in them.

  Args:
    dataset: A key of `BUILDERS`.
    data_dir: Where prepared data sets lie; empty: TFDS's own place.
    names: The categories wanted; empty for all that are prepared.

  Returns:
    The categories, in the order of the data set.

  Raises:
    FileNotFoundError: If one is not prepared.
    ValueError: If there is no such data set or category.
  """
  known = [config for config in configs(dataset) if config != ALL]
  if unknown := sorted(set(names) - set(known)):
    raise ValueError(
      f'{dataset} has no {", ".join(unknown)}; there are {", ".join(known)}'
    )
  ready = {
    name: found
    for name in configs(dataset)
    if (found := builder(dataset, name, data_dir)).data_path.exists()
  }
  wanted = [name for name in known if not names or name in names]
  own = [name for name in wanted if name in ready]
  if names and own == wanted:
    return tuple(_categories(ready[name])[0] for name in own)
  if ALL in ready:
    found = _categories(ready[ALL])
    return tuple(one for one in found if one.name in wanted)
  if own and not names:
    return tuple(_categories(ready[name])[0] for name in own)
  missing = [name for name in wanted if name not in ready]
  place = builder(dataset, missing[0], data_dir).data_path.parents[2]
  raise FileNotFoundError(
    f'{place}: {dataset} is not prepared there ({", ".join(missing)}); prepare '
    f'it (python -m simplenet_jax.prepare --dataset={dataset}) or name another '
    'place with --config.data.tfds_dir'
  )


def _categories(prepared: Any) -> list[Category]:
  """Lists the categories in one builder's files."""
  trained: dict[str, list[Record]] = {}
  tested: dict[str, list[Sample]] = {}
  for name, sample in _samples(prepared, 'train'):
    trained.setdefault(name, []).append(sample.path)
  for name, sample in _samples(prepared, 'test'):
    tested.setdefault(name, []).append(sample)
  return [
    Category(name, tuple(train), tuple(tested.get(name, ())))
    for name, train in trained.items()
  ]


def _samples(prepared: Any, split: str) -> Iterator[tuple[str, Any]]:
  features = prepared.info.features
  encoded = {
    name: tfds.decode.SkipDecoding()
    for name in ('image', 'mask')
    if name in features
  }
  source = prepared.as_data_source(split, decoders=encoded)
  for index in range(len(source)):
    example = source[index]
    category = features['category'].int2str(example['category'])
    defect = example['defect'].decode()
    filename = PurePosixPath(example['filename'].decode())

    def record(part: str, place: PurePosixPath, example=example, index=index):
      content = example[part]
      return Record(
        place,
        str(prepared.data_path),
        functools.partial(_read, source, index, part),
        len(content),
        images.encoded_size(content, str(place)),
      )

    mask = None
    if example['label'] == base.LABELS.index('anomalous') and 'mask' in encoded:
      place = f'ground_truth/{defect}/{filename.stem}_mask.png'
      mask = record('mask', PurePosixPath(category, place))
    image = record('image', PurePosixPath(category, filename))
    yield category, Sample(image, defect, mask)


def _read(source: Any, index: int, part: str) -> bytes:
  return source[index][part]
