"""Sets a detector's thresholds by good images that it was not trained on.

python -m simplenet_jax.calibrate --detector=WORKDIR/detectors/<category> \
    --input=FOLDER --false_alarm_rate=0.01
"""

from pathlib import Path

from absl import flags

from simplenet_jax import cli
from simplenet_jax.data import files
from simplenet_jax.progress import console, counted

_DETECTOR = flags.DEFINE_string('detector', None, 'The detector, a file.')
_INPUT = flags.DEFINE_string(
  'input', None, 'Good images: a file, a folder or a pattern.'
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Where the calibrated detector goes; else to its own file.'
)
_RATE = flags.DEFINE_float(
  'false_alarm_rate', 0.01, 'Share of good images that may be flagged.'
)
cli.require('detector', 'input')


def main() -> None:
  """Calibrates."""
  if not 0 < _RATE.value < 1:
    raise ValueError(f'--false_alarm_rate is {_RATE.value}, expected 0 to 1')
  paths = files.locate(_INPUT.value or '', '--input')
  from simplenet_jax.detector import Detector
  from simplenet_jax.inference import file, thresholds

  path = Path(_DETECTOR.value or '').expanduser()
  target = Path(_OUTPUT.value).expanduser() if _OUTPUT.value else path
  if target.is_file() and target.suffix != file.SUFFIX:
    raise ValueError(
      f'{target} does not end in {file.SUFFIX}, as what is written will; '
      'rename it, or give another --output'
    )
  detector = Detector.load(path)
  console.print(
    f'Calibrates {detector.card.name} with {counted(len(paths), "image")}, to '
    f'{target}'
  )
  detector.calibrate(paths, _RATE.value)
  console.print(thresholds.describe(detector.thresholds))
  for name, score in detector.thresholds.drivers:
    console.print(f'  {score:.4g}  {name}')
  detector.save(target)


if __name__ == '__main__':
  cli.run(main)
