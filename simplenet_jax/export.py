"""Exports a detector for programs without this package.

  simplenet export --detector=WORKDIR/detectors/<category> \
    --format=onnx --output=DIR

DIR then holds the model, for jax alone or ONNX Runtime, detector.json, and
preprocess.py, which makes the model's input.
"""

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console

_DETECTOR = flags.DEFINE_string('detector', None, 'The detector, a file.')
_FORMAT = flags.DEFINE_enum(
  'format', 'stablehlo', ['stablehlo', 'onnx'], 'Of the model.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Where the files go, a folder.')
_OVERWRITE = cli.define_overwrite()
cli.require('detector', 'output')


def main() -> None:
  """Exports."""
  # Wrong flags are told at once, not after the seconds that jax takes to load.
  folder = cli.folder(_OUTPUT.value or '', '--output')
  from simplenet_jax.detection import export, thresholds
  from simplenet_jax.detector import Detector

  detector = Detector.load(_DETECTOR.value or '')
  told = '\n  '.join(thresholds.describe(detector.thresholds))
  console.print(
    f'Exports {detector.card.name} as {_FORMAT.value} to {folder}/\n  {told}'
  )
  detector.caution()
  difference = export.export(detector, _FORMAT.value, folder, _OVERWRITE.value)
  console.print(f"  equals the detector to {difference:.1e} of scores' range")


if __name__ == '__main__':
  cli.run(main)
