"""TFDS builders of the data sets; importing them registers them.

They need no TensorFlow: images go in as they are encoded, and ArrayRecord files
come out, to be read with `as_data_source`.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from simplenet_jax.data import cifar10, download, folder, images
from simplenet_jax.data.category import Category, Sample
from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.data.tree import GOOD

ALL = 'all'  # MVTec AD's config of every category.
LABELS = ('normal', 'anomalous')
_FORMAT = 'array_record'  # TFDS's default can be written by TensorFlow only.


class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """What the builders have in common."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}  # noqa: RUF012 - as TFDS has it.

  def __init__(self, *, file_format: Any = None, **others: Any):
    """Prepares; files are ArrayRecord unless another format is named."""
    super().__init__(file_format=file_format or _FORMAT, **others)

  def _described(
    self,
    categories: Sequence[str],
    shape: tuple[int | None, int | None],
    *,
    masks: bool,
    **about: Any,
  ) -> tfds.core.DatasetInfo:
    def image(channels: int) -> Any:
      form = (*shape, channels)
      return tfds.features.Image(shape=form, encoding_format='png')

    features = {
      'image': image(3),
      **({'mask': image(1)} if masks else {}),
      'label': tfds.features.ClassLabel(names=LABELS),
      'category': tfds.features.ClassLabel(names=categories),
      'defect': tfds.features.Text(),
      'filename': tfds.features.Text(),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
      **about,
    )

  def _splits(self, found: Sequence[Category]) -> dict[str, Any]:
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
        'label': LABELS[sample.label],
        'category': category.name,
        'defect': sample.defect,
        'filename': '/'.join(images.place(sample.path).parts[-3:]),
      }
      if isinstance(self, MvtecAd):
        example['mask'] = _mask(sample)
      yield index, example


class MvtecAd(Builder):
  """A config per category, and `all`, the default.

  Images and masks are stored as MVTec's files are, bit for bit; images come in
  the order of their names, test images by defect first. A good image's mask is
  black.
  """

  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=ALL, description='All fifteen categories.'),
    *(
      tfds.core.BuilderConfig(name=name, description=f'The category {name}.')
      for name in MVTEC_AD
    ),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'MVTec AD may be used for non-commercial purposes only. '
    '`python -m simplenet_jax.download --dataset=mvtec_ad --accept_license` '
    'puts it into data/mvtec; `manual_dir` is then data. Or put the extracted '
    'categories (bottle, cable, ...) into `manual_dir` or its folder mvtec.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return self._described(
      MVTEC_AD,
      (None, None),
      masks=True,
      description='Industrial parts and textures: good images to train on, '
      'good and defective ones with pixelwise masks to test on.',
      homepage='https://www.mvtec.com/company/research/datasets/mvtec-ad',
      citation="""@article{bergmann2021mvtec,
  title = {The {MVTec} Anomaly Detection Dataset},
  author = {Bergmann, Paul and Batzner, Kilian and Fauser, Michael and
            Sattlegger, David and Steger, Carsten},
  journal = {International Journal of Computer Vision},
  volume = {129},
  year = {2021}
}""",
      license='CC BY-NC-SA 4.0, MVTec Software GmbH',
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    root = Path(dl_manager.manual_dir)
    root = root / 'mvtec' if (root / 'mvtec').is_dir() else root
    assert self.builder_config
    name = self.builder_config.name
    return self._splits(
      folder.find_categories(root, MVTEC_AD if name == ALL else (name,))
    )


class Cifar10OneClass(Builder):
  """A config per normal class.

  `train` holds the images of the class, `test` all 10,000 test images, in the
  data set's order. `defect` is the name of an anomalous image's class.
  """

  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=name, description=f'{name} is normal.')
    for name in cifar10.CLASSES
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Nothing is needed: the archive is downloaded. The binary files in the '
    'folder cifar10 of `manual_dir`, where `python -m simplenet_jax.download '
    '--dataset=cifar10` puts them, are taken instead.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return self._described(
      cifar10.CLASSES,
      (cifar10.SIDE, cifar10.SIDE),
      masks=False,
      description='Small photographs: those of one class are normal, those of '
      'the other nine anomalous.',
      homepage='https://www.cs.toronto.edu/~kriz/cifar.html',
      citation="""@techreport{krizhevsky2009learning,
  title = {Learning Multiple Layers of Features from Tiny Images},
  author = {Krizhevsky, Alex},
  institution = {University of Toronto},
  year = {2009}
}""",
      license='none stated by its authors',
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    try:
      root = Path(dl_manager.manual_dir)
    except AssertionError:  # TFDS's way to say that there is no such directory.
      root = Path(dl_manager.download_dir)
    if not (root / 'cifar10').is_dir():
      download.obtain(download.ARCHIVES['cifar10'], root)
    assert self.builder_config
    names = (self.builder_config.name,)
    return self._splits(cifar10.find_categories(root / 'cifar10', names))


# Of the data sets that can be prepared.
BUILDERS: dict[str, type[Builder]] = {
  'mvtec_ad': MvtecAd,
  'cifar10': Cifar10OneClass,
}


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
  black = np.zeros(images.image_size(sample.path), np.uint8)
  Image.fromarray(black).save(file, 'png')
  return file.getvalue()
