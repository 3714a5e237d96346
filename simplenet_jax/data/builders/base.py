"""What the builders have in common."""

from typing import Any

import tensorflow_datasets as tfds

LABELS = ('normal', 'anomalous')
FORMAT = 'array_record'  # TFDS's default can be written by TensorFlow only.


class ArrayRecordBuilder(
  tfds.core.GeneratorBasedBuilder, skip_registration=True
):
  """A builder whose files are ArrayRecord unless another format is named."""

  def __init__(self, *, file_format: Any = None, **others: Any):
    """Prepares.

    Args:
      file_format: TFDS's name of the files' format; ArrayRecord if not given.
      **others: See `tfds.core.DatasetBuilder`.
    """
    super().__init__(file_format=file_format or FORMAT, **others)

  @property
  def config_name(self) -> str:
    """The config's name."""
    assert self.builder_config  # All of ours have several.
    return self.builder_config.name
