"""Data sets that TFDS prepares: their builders, and reading what they made.

Importing this module registers the builders `mvtec_ad` and `cifar10_one_class`.
They need no TensorFlow: images go in as they are encoded, and ArrayRecord files
come out, to be read with `as_data_source`.
"""

import contextlib
import io
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from simplenet_jax.console import Board
from simplenet_jax.data import cifar10, decoding, folder, images
from simplenet_jax.data.category import Category, Sample
from simplenet_jax.data.download import ARCHIVES, obtain
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.data.images import EmbeddedImage
from simplenet_jax.data.tree import GOOD

ALL = 'all'  # MVTec AD's config of every category.
_LABELS = ('normal', 'anomalous')


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """What the builders have in common."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}  # noqa: RUF012 - as TFDS has it.
  DATA_SET = ''
  CATEGORIES: Sequence[str] = ()
  SIDE: int | None = None  # Of its images, in pixels; None: they differ.
  DESCRIPTION = ''
  HOMEPAGE = ''

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
    if isinstance(self, MvtecAd):
      features['mask'] = image(1)
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
      description=self.DESCRIPTION,
      homepage=self.HOMEPAGE,
      citation=ARCHIVES[self.DATA_SET].citation,
      license=ARCHIVES[self.DATA_SET].terms,
    )

  def _find(self, dl_manager: Any, name: str) -> Sequence[Category]:
    """Returns the categories of the config `name`, as files."""
    raise NotImplementedError

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    assert self.builder_config  # All of ours have several.
    found = self._find(dl_manager, self.builder_config.name)
    train = [(one, Sample(path, GOOD)) for one in found for path in one.train]
    test = [(one, sample) for one in found for sample in one.test]
    return {
      'train': self._generate_examples(train),
      'test': self._generate_examples(test),
    }

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
      if isinstance(self, MvtecAd):
        example['mask'] = _mask(sample)
      yield index, example


class MvtecAd(_Builder):
  """A config per category, and `all`, the default.

  Images and masks are stored as MVTec's files are, bit for bit; images come in
  the order of their names, test images by defect first. A good image's mask is
  black.
  """

  DATA_SET = 'mvtec_ad'
  CATEGORIES = MVTEC_AD
  DESCRIPTION = (
    'Industrial parts and textures: good images to train on, good and '
    'defective ones with pixelwise masks to test on.'
  )
  HOMEPAGE = 'https://www.mvtec.com/company/research/datasets/mvtec-ad'
  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=name) for name in (ALL, *MVTEC_AD)
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'MVTec AD may be used for non-commercial purposes only. '
    '`python -m simplenet_jax.download --dataset=mvtec_ad --accept_license` '
    'puts it into data/mvtec; `manual_dir` is then data. Or put the extracted '
    'categories (bottle, cable, ...) into `manual_dir` or its folder mvtec.'
  )

  def _find(self, dl_manager: Any, name: str) -> Sequence[Category]:
    root = Path(dl_manager.manual_dir)
    root = root / 'mvtec' if (root / 'mvtec').is_dir() else root
    return folder.find(root, MVTEC_AD if name == ALL else (name,)).categories


class Cifar10OneClass(_Builder):
  """A config per normal class.

  `train` holds the images of the class, `test` all 10,000 test images, in the
  data set's order. `defect` is the name of an anomalous image's class.
  """

  DATA_SET = 'cifar10'
  CATEGORIES = cifar10.CLASSES
  SIDE = cifar10.SIDE
  DESCRIPTION = (
    'Small photographs: those of one class are normal, those of the other '
    'nine anomalous.'
  )
  HOMEPAGE = 'https://www.cs.toronto.edu/~kriz/cifar.html'
  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=name) for name in cifar10.CLASSES
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Nothing is needed: the archive is downloaded. The binary files in the '
    'folder cifar10 of `manual_dir`, where `python -m simplenet_jax.download '
    '--dataset=cifar10` puts them, are taken instead.'
  )

  def _find(self, dl_manager: Any, name: str) -> Sequence[Category]:
    try:
      root = Path(dl_manager.manual_dir)
    except AssertionError:  # TFDS's way to say that there is no such directory.
      root = Path(dl_manager.download_dir)
    if not (root / 'cifar10').is_dir():
      obtain(ARCHIVES['cifar10'], root)
    return cifar10.find_categories(root / 'cifar10', (name,))


BUILDERS = {one.DATA_SET: one for one in (MvtecAd, Cifar10OneClass)}


def builder(dataset: str, config: str, tfds_dir: str = '') -> _Builder:
  """Returns the builder of one config of a key of `BUILDERS`.

  Prepared data sets lie in `tfds_dir`; empty: TFDS's own place.

  Raises:
    ValueError: If what is prepared is damaged.
  """
  place = str(Path(tfds_dir).expanduser()) if tfds_dir else None
  with _told(f'{place or "what TFDS prepared"}: {dataset}/{config}'):
    return BUILDERS[dataset](config=config, data_dir=place)


def choose(dataset: str, names: Sequence[str]) -> list[str]:
  """Returns the configs to prepare: those named, else `all`, else every one."""
  known = [one.name for one in BUILDERS[dataset].BUILDER_CONFIGS]
  _check(dataset, names, known)
  return list(names) or [ALL] * (ALL in known) or known


def prepare(found: _Builder, manual: Path) -> None:
  """Prepares one config, whole or not at all, from TFDS's manual directory.

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


def is_ready(found: _Builder) -> bool:
  """Returns whether a builder's files are there, by its own record of them."""
  return found.data_path.exists() and {'train', 'test'} <= {*found.info.splits}


def find_categories(
  dataset: str, tfds_dir: str = '', names: Sequence[str] = ()
) -> tuple[Category, ...]:
  """Lists the images of a prepared data set's categories, or of those named.

  Categories asked for by name are taken from their own configs where these are
  prepared, else from `all`. The records are read through once, for the names
  and sizes in them.

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
  known = BUILDERS[dataset].CATEGORIES
  _check(dataset, names, known)
  configs = [one.name for one in BUILDERS[dataset].BUILDER_CONFIGS]
  every = {config: builder(dataset, config, tfds_dir) for config in configs}
  ready = [config for config, found in every.items() if is_ready(found)]
  wanted = [name for name in known if not names or name in names]
  own = [name for name in wanted if name in ready]
  if ALL in ready and not (names and own == wanted):
    return tuple(one for one in _read_all(every[ALL]) if one.name in wanted)
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
  return tuple(_read_all(every[name])[0] for name in own)


def _mask(sample: Sample) -> bytes:
  if sample.masks:
    (mask,) = sample.masks
    return mask.read_bytes()
  if sample.label:
    raise ValueError(
      f'{sample.path}: a defective image without a mask; MVTec AD has one for '
      'each, in ground_truth'
    )
  file = io.BytesIO()
  black = np.zeros(images.check(sample.path).size, np.uint8)
  Image.fromarray(black).save(file, 'png')
  return file.getvalue()


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


def _read_all(prepared: _Builder) -> list[Category]:
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
  encoded = {part: tfds.decode.SkipDecoding() for part in parts}
  source = prepared.as_data_source(split, decoders=encoded)
  total, name = len(source), f'{prepared.data_path.parent.name}, {split}'
  origin = str(prepared.data_path)

  def embedded(index: int, part: str, place: PurePosixPath) -> EmbeddedImage:
    read = lambda: source[index][part]  # noqa: E731
    content, told = example[part], f'{origin}: {place}'
    header = decoding.decode(io.BytesIO(content), images.viewed, told)
    return EmbeddedImage(place, origin, read, len(content), header.size)

  for index in range(total):
    board.show(name, index, total, f'{index} of {total} read')
    example = source[index]
    category = features['category'].int2str(example['category'])
    defect = example['defect'].decode()
    path = PurePosixPath(category, example['filename'].decode())
    masks = ()
    if _LABELS[example['label']] == 'anomalous' and 'mask' in parts:
      place = f'{category}/ground_truth/{defect}/{path.stem}_mask.png'
      masks = (embedded(index, 'mask', PurePosixPath(place)),)
    yield category, Sample(embedded(index, 'image', path), defect, masks)
  board.end(name)
