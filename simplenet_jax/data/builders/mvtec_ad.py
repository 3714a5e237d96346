"""MVTec AD as a TFDS data set."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from simplenet_jax.data import folder, images
from simplenet_jax.data.builders import base
from simplenet_jax.data.record import place

ALL = 'all'
CATEGORIES = (
  'bottle',
  'cable',
  'capsule',
  'carpet',
  'grid',
  'hazelnut',
  'leather',
  'metal_nut',
  'pill',
  'screw',
  'tile',
  'toothbrush',
  'transistor',
  'wood',
  'zipper',
)


class MvtecAd(base.ArrayRecordBuilder):
  """A config per category, and `all`, the default.

  Images and masks are stored as MVTec's files are, bit for bit; images come in
  the order of their names, test images by defect first. A good image's mask is
  black.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}  # noqa: RUF012 - as TFDS has it.
  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=ALL, description='All fifteen categories.'),
    *(
      tfds.core.BuilderConfig(name=name, description=f'The category {name}.')
      for name in CATEGORIES
    ),
  ]
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'MVTec AD may be used for non-commercial purposes only. '
    '`python -m simplenet_jax.download --dataset=mvtec_ad --accept_license` '
    'puts it into data/mvtec; `manual_dir` is then data. Or put the extracted '
    'categories (bottle, cable, ...) into `manual_dir` or its folder mvtec.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Industrial parts and textures: good images to train on, '
      'good and defective ones with pixelwise masks to test on.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(
            shape=(None, None, 3), encoding_format='png'
          ),
          'mask': tfds.features.Image(
            shape=(None, None, 1), encoding_format='png'
          ),
          'label': tfds.features.ClassLabel(names=base.LABELS),
          'category': tfds.features.ClassLabel(names=CATEGORIES),
          'defect': tfds.features.Text(),
          'filename': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
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
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    root = Path(dl_manager.manual_dir)
    root = root / 'mvtec' if (root / 'mvtec').is_dir() else root
    name = self.config_name
    names = CATEGORIES if name == ALL else (name,)
    found = folder.find_categories(root, names)
    return {
      'train': self._generate_examples(
        (one.name, folder.Sample(path, folder.GOOD))
        for one in found
        for path in one.train
      ),
      'test': self._generate_examples(
        (one.name, sample) for one in found for sample in one.test
      ),
    }

  def _generate_examples(
    self, samples: Iterator[tuple[str, folder.Sample]]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, (category, sample) in enumerate(samples):
      path = sample.path
      yield (
        index,
        {
          'image': path.read_bytes(),
          'mask': _mask(sample),
          'label': base.LABELS[sample.label],
          'category': category,
          'defect': sample.defect,
          'filename': '/'.join(place(path).parts[-3:]),
        },
      )


def _mask(sample: folder.Sample) -> bytes:
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
