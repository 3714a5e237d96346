"""Data sets that TFDS prepares: their builders, and reading what they made.

Importing this module registers `mvtec_ad` and `cifar10_one_class`. They need no
TensorFlow: encoded images go in, ArrayRecord files come out.
"""

import contextlib
import io
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from simplenet_jax.console import Board, at_once, console, first_line
from simplenet_jax.data import decoding, folder, images, public, tree
from simplenet_jax.data.category import Category, Sample
from simplenet_jax.data.download import ARCHIVES, obtain
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.data.tree import GOOD

ALL = 'all'  # MVTec AD's config of every category.
_LABELS = ('normal', 'anomalous')


class _Info(tfds.core.DatasetInfo):
  def initialize_from_bucket(self) -> None:
    """Leaves TFDS's server alone, which knows none of these data sets."""
    # It would leave an empty folder among the temporary ones, each time.


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.0.0')
  DATA_SET = ''
  CATEGORIES: Sequence[str] = ()
  SIDE: int | None = None  # Of its images, in pixels; None: they differ.
  MASKS = False
  _find: Callable[[Any, str], Sequence[Category]]  # A config's, as files.

  def __init__(self, *, file_format: Any = None, **others: Any):
    # TFDS's default can be written by TensorFlow only.
    super().__init__(file_format=file_format or 'array_record', **others)

  def _info(self) -> tfds.core.DatasetInfo:
    def image(channels: int) -> Any:
      shape = (self.SIDE, self.SIDE, channels)
      return tfds.features.Image(shape=shape, encoding_format='png')

    features = {
      'image': image(3),
      'label': tfds.features.ClassLabel(names=_LABELS),
      'category': tfds.features.ClassLabel(names=self.CATEGORIES),
      'defect': tfds.features.Text(),
      'filename': tfds.features.Text(),
    }
    if self.MASKS:
      features['mask'] = image(1)
    return _Info(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
      description=self.__doc__,
      citation=ARCHIVES[self.DATA_SET].citation,
      license=ARCHIVES[self.DATA_SET].terms,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    found = self._find(dl_manager, self.builder_config_name or '')
    train = [(one, Sample(path, GOOD)) for one in found for path in one.train]
    test = [(one, sample) for one in found for sample in one.test]
    parts = {'train': train, 'test': test}
    return {n: self._generate_examples(part) for n, part in parts.items()}

  def _generate_examples(
    self, samples: Iterable[tuple[Category, Sample]]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, (category, sample) in enumerate(samples):
      example = {
        'image': sample.path.read_bytes(),
        'label': _LABELS[sample.label],
        'category': category.name,
        'defect': sample.defect,
        'filename': '/'.join(images.place(sample.path).parts[-3:]),
      }
      if self.MASKS:
        example['mask'] = _mask(sample)
      yield index, example


class MvtecAd(_Builder):
  """Industrial parts and textures, a config per category, and `all`.

  Images and masks are MVTec's files, bit for bit, in the order of their names;
  a good image's mask is black.
  """

  DATA_SET, CATEGORIES, MASKS = 'mvtec_ad', MVTEC_AD, True
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(x) for x in (ALL, *MVTEC_AD)]  # noqa: RUF012
  MANUAL_DOWNLOAD_INSTRUCTIONS = ARCHIVES['mvtec_ad'].manual

  def _find(self, dl_manager: Any, name: str) -> Sequence[Category]:
    root = Path(dl_manager.manual_dir)
    root = root / 'mvtec' if (root / 'mvtec').is_dir() else root
    return folder.find(root, MVTEC_AD if name == ALL else (name,)).categories


class Cifar10OneClass(_Builder):
  """Small photographs, a config per normal class; the other nine are anomalies.

  `defect` is the name of an anomalous image's class.
  """

  DATA_SET, CATEGORIES, SIDE = 'cifar10', public.CLASSES, public.SIDE
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(x) for x in public.CLASSES]  # noqa: RUF012
  MANUAL_DOWNLOAD_INSTRUCTIONS = ARCHIVES['cifar10'].manual

  def _find(self, dl_manager: Any, name: str) -> Sequence[Category]:
    try:
      root = Path(dl_manager.manual_dir)
    except AssertionError:  # TFDS's way to say that there is no such directory.
      root = Path(dl_manager.download_dir)
    if not (root / 'cifar10').is_dir():
      obtain(ARCHIVES['cifar10'], root)
    return public.find_cifar10(root / 'cifar10', (name,)).categories


BUILDERS = {one.DATA_SET: one for one in (MvtecAd, Cifar10OneClass)}


def builder(dataset: str, config: str, tfds_dir: str = '') -> _Builder:
  """Returns a config's builder; prepared data lies in TFDS's place, or here."""
  place = str(Path(tfds_dir).expanduser()) if tfds_dir else None
  with _told(f'{place or "what TFDS prepared"}: {dataset}/{config}'):
    return BUILDERS[dataset](config=config, data_dir=place)


def prepare(
  dataset: str, names: Sequence[str], tfds_dir: str, manual: Path
) -> None:
  """Prepares configs that are not yet, each whole or not at all.

  They are those named, else `all`, else every one. CIFAR-10 is downloaded into
  TFDS's `manual` directory where it is not there.
  """
  chosen = tree.choose(dataset, names, BUILDERS[dataset].builder_configs)
  if not names and ALL in chosen:
    chosen = [ALL]
  builders = [builder(dataset, name, tfds_dir) for name in chosen]
  left = [found for found in builders if not _is_ready(found)]
  for found in builders:
    state = 'to be prepared' if found in left else 'is prepared'
    console.print(f'{found.data_path} {state}')
  if left and dataset == 'cifar10' and not (manual / 'cifar10').is_dir():
    obtain(ARCHIVES[dataset], manual)
  download = tfds.download.DownloadConfig(manual_dir=manual)
  for number, found in enumerate(left):
    if found.data_path.exists():
      raise ValueError(
        f'{found.data_path} is half-made; delete it and start again'
      )
    rest = f'{len(left) - number} not prepared; the same command goes on'
    with at_once(lambda rest=rest: f'stopped, {rest}'):
      try:
        found.download_and_prepare(download_config=download)
      except Exception as error:  # TFDS has many kinds for files not there.
        raise ValueError(f'{found.info.full_name}: {error}') from error


def _is_ready(found: _Builder) -> bool:
  return found.data_path.exists() and {'train', 'test'} <= {*found.info.splits}


def find_categories(
  dataset: str, tfds_dir: str = '', names: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Lists the images of a prepared data set's categories, or of those named.

  Those named are taken from their own configs where these are prepared, else
  from `all`. Records are read once, for the names and sizes in them.
  """
  if dataset not in BUILDERS:
    raise ValueError(
      f'--config.data.dataset is {dataset!r}, none that TFDS can prepare; '
      f'choose one of {", ".join(BUILDERS)} or --config.data.source=folder'
    )
  wanted = tree.choose(dataset, names, BUILDERS[dataset].CATEGORIES)
  every = {
    name: builder(dataset, name, tfds_dir)
    for name in BUILDERS[dataset].builder_configs
  }
  ready = [name for name, found in every.items() if _is_ready(found)]
  own = [name for name in wanted if name in ready]
  if ALL in ready and not (names and own == wanted):
    return tuple(one for one in _read_all(every[ALL]) if one.name in wanted)
  if own and (not names or own == wanted):
    return tuple(_read_all(every[name])[0] for name in own)
  missing = [name for name in wanted if name not in ready]
  command = f'simplenet prepare --dataset={dataset}'
  command += f' --tfds_dir={shlex.quote(str(tfds_dir))}' if tfds_dir else ''
  raise FileNotFoundError(
    f'{every[missing[0]].data_path.parents[2]}: {dataset} is not prepared '
    f'there ({", ".join(missing)}); prepare it ({command}) or name another '
    'place with --config.data.tfds_dir'
  )


def _mask(sample: Sample) -> bytes:
  if sample.masks:
    return sample.masks[0].read_bytes()
  if sample.label:
    raise ValueError(
      f'{sample.path}: a defective image without a mask; MVTec AD has one for '
      'each, in ground_truth'
    )
  return images.encoded(np.zeros(images.check(sample.path).size, np.uint8))


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
  """Puts TFDS's errors, of many kinds, into one line."""
  try:
    yield
  except Exception as error:
    raise ValueError(
      f'{what} is damaged or half-made ({first_line(error)[:200]}); delete it '
      'and prepare it again (simplenet prepare)'
    ) from error


def _read_all(prepared: Any) -> list[Category]:
  parts, found = {'image', 'mask'} & {*prepared.info.features}, {}
  encoded = dict.fromkeys(parts, tfds.decode.SkipDecoding())
  with _told(str(prepared.data_path)), Board() as board:
    for split in ('train', 'test'):
      source = prepared.as_data_source(split, decoders=encoded)
      shown, total = f'{prepared.data_path.parent.name}, {split}', len(source)
      for index in range(total):
        board.show(shown, index, total, f'{index} of {total} read')
        name, sample = _sample(prepared, source, index)
        found.setdefault(name, {'train': [], 'test': []})[split].append(sample)
      board.end(shown)
  return [
    Category(name, tuple(one.path for one in of['train']), tuple(of['test']))
    for name, of in found.items()
  ]


def _sample(prepared: Any, source: Any, index: int) -> tuple[str, Sample]:
  """Returns an example's category and its images, as they are encoded."""
  example, origin = source[index], str(prepared.data_path)

  def embedded(part: str, place: PurePosixPath) -> images.EmbeddedImage:
    content, told = example[part], f'{origin}: {place}'
    header = decoding.decode(io.BytesIO(content), images.viewed, told)
    read = lambda: source[index][part]  # noqa: E731
    return images.EmbeddedImage(place, origin, read, len(content), header.size)

  label = prepared.info.features['category']
  category, defect = label.int2str(example['category']), example['defect']
  path, defect = example['filename'].decode(), defect.decode()
  place, masks = PurePosixPath(category, path), ()
  if _LABELS[example['label']] == 'anomalous' and 'mask' in example:
    mask = f'{category}/ground_truth/{defect}/{place.stem}_mask.png'
    masks = (embedded('mask', PurePosixPath(mask)),)
  return category, Sample(embedded('image', place), defect, masks)
