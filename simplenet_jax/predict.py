"""Scores images with a trained detector.

  simplenet predict --detector=FILE --input=FOLDER --output=DIR

DIR then holds predictions.csv, pictures with the defects outlined and, with
--maps, anomaly maps. Images that cannot be read are left out; the exit status
is then 1.
"""

import math
from typing import Any

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console, doing
from simplenet_jax.data import files, roi

_FLAGS = cli.define_detector()
_OUTPUT = flags.DEFINE_string('output', None, 'Where results go, a folder.')
_THRESHOLD = flags.DEFINE_float('threshold', None, 'Another limit of scores.')
_PIXEL = flags.DEFINE_float('pixel_threshold', None, 'A limit of maps.')
_SCALE = 'Whether 0 is a usual score and 1 the threshold.'
flags.DEFINE_bool('normalise', False, _SCALE)
flags.DEFINE_alias('normalize', 'normalise')
flags.DEFINE_bool('pictures', True, 'Whether to draw pictures.')
flags.DEFINE_bool('maps', False, 'Whether to write anomaly maps.')
cli.define_overwrite()
cli.require('detector', 'input', 'output')
for _name in ('threshold', 'pixel_threshold'):
  flags.register_validator(
    _name, lambda x: x is None or math.isfinite(x), 'must be a finite number'
  )


def main() -> None:
  """Predicts."""
  # Wrong flags are refused before JAX is loaded, which takes seconds.
  given = files.locate(_FLAGS.input, '--input')
  folder = cli.folder(_OUTPUT.value or '', '--output')
  with doing('loads JAX and the detector'):
    from simplenet_jax.detection import output
    from simplenet_jax.detector import Detector

    detector = Detector.load(
      _FLAGS.detector, precision=_FLAGS.precision, batch_size=_FLAGS.batch_size
    )
  if _FLAGS.roi:
    detector.roi = roi.read(_FLAGS.roi, '--roi', detector.card.name)
  if _THRESHOLD.value is not None:
    detector.threshold = _THRESHOLD.value
  if _PIXEL.value is not None:
    detector.pixel_threshold = _PIXEL.value
  console.print(given.tell('to predict'))
  names = 'pictures', 'maps', 'normalise', 'channels', 'overwrite'
  options: Any = {name: _FLAGS[name].value for name in names}
  output.predict(
    detector, given.images, folder, name=_FLAGS.detector, **options
  )


if __name__ == '__main__':
  cli.run(main)
