"""Sets a detector's thresholds by new good images.

  simplenet calibrate --detector=FILE --input=FOLDER --false_alarm_rate=0.01
  simplenet calibrate --detector=FILE --input=MORE_IMAGES --append
  simplenet calibrate --detector=FILE --from_served=found/predictions.csv

The images were not trained on. --from_served takes those that the detector
judged good itself: it promises less, as good parts that it called NOT OK are
not among them.
"""

from pathlib import Path

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console, counted, doing
from simplenet_jax.data import files, roi
from simplenet_jax.files import refuse_existing

_FLAGS = cli.define_detector()
_OUTPUT = flags.DEFINE_string(
  'output', None, 'The new file; else --detector is replaced.'
)
_RATE = flags.DEFINE_float(
  'false_alarm_rate',
  0.01,
  'The share of good images that may be called NOT OK.',
)
_ANY_ASPECT = flags.DEFINE_bool(
  'any_aspect', False, 'Whether images may have another aspect than trained on.'
)
_APPEND = flags.DEFINE_bool('append', False, 'Whether the earlier ones count.')
_SERVED = flags.DEFINE_string(
  'from_served', None, 'A table of predictions, for --input: its good images.'
)
_OVERWRITE = cli.define_overwrite()
_OTHER_RATES = 0.01, 0.02, 0.05, 0.1  # Told beside the one asked for.
cli.require('detector')
flags.register_multi_flags_validator(
  ['input', 'from_served'],
  lambda given: bool(given['input']) != bool(given['from_served']),
  'either --input or --from_served must be given',
)
flags.register_validator(
  'false_alarm_rate', lambda rate: 0 < rate < 1, 'must be between 0 and 1'
)


def main() -> None:
  """Calibrates."""
  table = Path(_SERVED.value or '').expanduser()
  given, served = files.Given((), {}, table.parent), ()
  if not _SERVED.value:
    given = files.locate(_FLAGS.input, '--input', good=True)
  if _OUTPUT.value:
    cli.folder(str(Path(_OUTPUT.value).parent), '--output')
  with doing('loads JAX'):
    from simplenet_jax.detection import calibration, file, thresholds
    from simplenet_jax.detector import Detector

  path = Path(_FLAGS.detector).expanduser()
  target = file.with_suffix(Path(_OUTPUT.value or path).expanduser())
  if _OUTPUT.value:
    refuse_existing(target, _OVERWRITE.value)
  elif path.is_file() and path != target:
    raise ValueError(f'{path} does not end in {file.SUFFIX}; rename it')
  detector = Detector.load(
    path, precision=_FLAGS.precision, batch_size=_FLAGS.batch_size
  )
  if _SERVED.value:
    found = calibration.read_served(table, detector.threshold)
    images, served = zip(*found, strict=True)
    given = given._replace(images=images)
  before = thresholds.describe(detector.thresholds)[0]
  what = 'is replaced' if target.exists() else 'is written'
  if _FLAGS.roi:
    detector.roi = roi.read(_FLAGS.roi, '--roi', detector.card.name)
  console.print(
    f'Calibrates {detector.card.name} with '
    f'{counted(len(given.images), "image")}; {target} {what}\n'
    f'{given.tell("to calibrate")}\nBefore: {before}'
  )
  options = {'channels': _FLAGS.channels, 'any_aspect': _ANY_ASPECT.value}
  with doing('scores the images'):
    options |= {'append': _APPEND.value, 'served': served}
    detector.calibrate(given.images, _RATE.value, **options)
  told = '\n  '.join(thresholds.describe(detector.thresholds))
  console.print(f'Now: {told}')
  for name, score in detector.thresholds.limiting_images:
    console.print(f'    {score:.4g}  {name}')
  known = detector.thresholds.good
  limits = ', '.join(
    f'{rate:.0%}: {known[calibration.rank_of(len(known), rate) - 1].score:.4g}'
    for rate in _OTHER_RATES
  )
  console.print(
    '  Look at these images: if one is not good, calibrate without it.\n'
    f'  Thresholds by --false_alarm_rate: {limits}'
  )
  detector.save(target)
  console.print(f'Go on with: {file.command(target)}')


if __name__ == '__main__':
  cli.run(main)
