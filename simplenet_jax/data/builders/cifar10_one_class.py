"""CIFAR-10 one-class as a TFDS data set."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from simplenet_jax.data import cifar10, folder
from simplenet_jax.data.builders import base
from simplenet_jax.data.record import place
from simplenet_jax.data.unpack import staged, unpack


class Cifar10OneClass(base.ArrayRecordBuilder):
  """A config per normal class.

  `train` holds the images of the class, `test` all 10,000 test images, in the
  data set's order. `defect` is the name of an anomalous image's class.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}  # noqa: RUF012 - as TFDS has it.
  BUILDER_CONFIGS = [  # noqa: RUF012
    tfds.core.BuilderConfig(name=name, description=f'{name} is normal.')
    for name in cifar10.CLASSES
  ]

  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    'Nothing is needed: TFDS downloads the archive. The binary files in the '
    'folder cifar10 of `manual_dir`, where `python -m simplenet_jax.download '
    '--dataset=cifar10` puts them, are taken instead.'
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Small photographs: those of one class are normal, those of '
      'the other nine anomalous.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(
            shape=(cifar10.SIDE, cifar10.SIDE, 3), encoding_format='png'
          ),
          'label': tfds.features.ClassLabel(names=base.LABELS),
          'category': tfds.features.ClassLabel(names=cifar10.CLASSES),
          'defect': tfds.features.Text(),
          'filename': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://www.cs.toronto.edu/~kriz/cifar.html',
      citation="""@techreport{krizhevsky2009learning,
  title = {Learning Multiple Layers of Features from Tiny Images},
  author = {Krizhevsky, Alex},
  institution = {University of Toronto},
  year = {2009}
}""",
      license='none stated by its authors',
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    root = _brought(dl_manager) or self._downloaded(dl_manager)
    [one] = cifar10.find_categories(root, (self.config_name,))
    train = [folder.Sample(record, folder.GOOD) for record in one.train]
    return {
      'train': self._generate_examples(train),
      'test': self._generate_examples(one.test),
    }

  def _downloaded(self, dl_manager: Any) -> Path:
    [url] = list(self.url_infos or ())  # From checksums.tsv, beside this file.
    path = Path(dl_manager.download(url))
    # TFDS's own extraction needs TensorFlow.
    root = path.with_name(f'{path.name}.extracted')
    if not root.exists():
      with staged(root) as aside:
        unpack(path, aside).rename(root)
    return root

  def _generate_examples(
    self, samples: Sequence[folder.Sample]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, sample in enumerate(samples):
      yield (
        index,
        {
          'image': sample.path.read_bytes(),
          'label': base.LABELS[sample.label],
          'category': self.config_name,
          'defect': sample.defect,
          'filename': '/'.join(place(sample.path).parts[-3:]),
        },
      )


def _brought(dl_manager: Any) -> Path | None:
  """Returns the folder in the manual directory, if there is one."""
  try:
    root = Path(dl_manager.manual_dir) / 'cifar10'
  except AssertionError:  # TFDS's way to say that there is no such directory.
    return None
  return root if root.is_dir() else None
