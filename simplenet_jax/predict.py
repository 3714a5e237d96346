"""Scores images with a trained detector.

  simplenet predict --detector=WORKDIR/detectors/<category> \
    --input=FOLDER --output=DIR

DIR then holds predictions.csv, pictures with the defects outlined and, with
--maps, anomaly maps. Images that cannot be read are left out; the exit status
is then 1.
"""

import math

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console
from simplenet_jax.data import files
from simplenet_jax.data.decoding import CHANNELS
from simplenet_jax.fields import PRECISIONS

_DETECTOR = flags.DEFINE_string('detector', None, 'The detector, a file.')
_INPUT = flags.DEFINE_string('input', None, 'An image, a folder or a pattern.')
_OUTPUT = flags.DEFINE_string('output', None, 'Where results go, a folder.')
_PRECISION = flags.DEFINE_enum(
  'precision', 'float32', PRECISIONS, 'Of the computation.'
)
_BATCH = flags.DEFINE_integer('batch_size', 64, 'Images at a time, at most.', 1)
_THRESHOLD = flags.DEFINE_float('threshold', None, 'Of scores, set by hand.')
_PIXEL = flags.DEFINE_float('pixel_threshold', None, 'Of maps, set by hand.')
_NORMALISE = flags.DEFINE_bool('normalise', False, 'To 0 and the threshold 1.')
_PICTURES = flags.DEFINE_bool('pictures', True, 'Whether to draw pictures.')
_MAPS = flags.DEFINE_bool('maps', False, 'Whether to write anomaly maps.')
_CHANNELS = flags.DEFINE_enum('channels', 'rgb', CHANNELS, 'Their order.')
_OVERWRITE = cli.define_overwrite()
cli.require('detector', 'input', 'output')
for _name in ('threshold', 'pixel_threshold'):
  flags.register_validator(
    _name, lambda x: x is None or math.isfinite(x), 'must be a finite number'
  )


def main() -> None:
  """Predicts."""
  # Wrong flags are told at once, not after the seconds that jax takes to load.
  given = files.locate(_INPUT.value or '', '--input')
  folder = cli.folder(_OUTPUT.value or '', '--output')
  from simplenet_jax.detection import output
  from simplenet_jax.detector import Detector

  detector = Detector.load(
    _DETECTOR.value or '',
    precision=_PRECISION.value,
    batch_size=_BATCH.value,
  )
  detector.thresholds = detector.thresholds.replace(
    image=_THRESHOLD.value, pixel=_PIXEL.value
  )
  console.print(given.tell('to predict'))
  output.predict(
    detector,
    given.images,
    folder,
    pictures=_PICTURES.value,
    maps=_MAPS.value,
    normalise=_NORMALISE.value,
    channels=_CHANNELS.value,
    overwrite=_OVERWRITE.value,
  )


if __name__ == '__main__':
  cli.run(main)
