"""Exports a detector for programs without this package.

  simplenet export --detector=FILE --format=onnx --output=DIR

DIR then holds the model, for jax alone or ONNX Runtime, detector.json, and
preprocess.py, which makes the model's input.
"""

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console

_DETECTOR = flags.DEFINE_string('detector', None, 'Out of WORKDIR/detectors.')
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

  detector, kind = Detector.load(_DETECTOR.value or ''), _FORMAT.value or ''
  console.print(f'Exports {detector.card.name} as {kind} to {folder}/')
  difference = export.export(detector, kind, folder, _OVERWRITE.value)
  limits = '\n    '.join(thresholds.describe(detector.thresholds))
  console.print(
    f"  model.{kind}: scores differ from the detector's by {difference:.1e} of "
    f'their range at most\n  detector.json: {limits}'
  )


if __name__ == '__main__':
  cli.run(main)
