"""Exports a detector for programs without this package.

  simplenet export --detector=FILE --format=onnx --output=DIR

DIR then holds the model, for JAX alone, ONNX Runtime or OpenVINO, its
description, detector.json, and preprocess.py, which makes the model's input.
"""

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console, doing

_DETECTOR = flags.DEFINE_string(
  'detector', None, 'A file of WORKDIR/detectors.'
)
_FORMATS = 'stablehlo', 'onnx', 'openvino'
_FORMAT = flags.DEFINE_enum(
  'format', 'stablehlo', _FORMATS, "The model's format."
)
_FIXED_BATCH = flags.DEFINE_integer(
  'fixed_batch', 0, 'How many images each call takes; 0: any number.', 0
)
_OUTPUT = flags.DEFINE_string('output', None, 'Where the files go, a folder.')
_OVERWRITE = cli.define_overwrite()
cli.require('detector', 'output')


def main() -> None:
  """Exports."""
  # Wrong flags are refused before JAX is loaded, which takes seconds.
  folder = cli.folder(_OUTPUT.value or '', '--output')
  with doing('loads JAX'):
    from simplenet_jax.detection import export, thresholds
    from simplenet_jax.detector import Detector

  detector, kind = Detector.load(_DETECTOR.value or ''), _FORMAT.value or ''
  console.print(f'Exports {detector.card.name} as {kind} to {folder}/')
  options = _OVERWRITE.value, _FIXED_BATCH.value
  with doing('makes the model and compares it with the detector'):
    difference = export.export(detector, kind, folder, *options)
  limits = '\n    '.join(thresholds.describe(detector.thresholds))
  model, *_ = export.FORMATS[kind].files
  console.print(
    f"  {model}: its scores differ from the detector's by "
    f'{difference:.1e} of their range at most\n  detector.json: {limits}\n'
    '  preprocess.py: makes its input; docs/export.md has an example'
  )


if __name__ == '__main__':
  cli.run(main)
