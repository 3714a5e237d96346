"""Exports a detector for programs without this package.

  simplenet export --detector=FILE --format=onnx --output=DIR
  simplenet export --detector=FILE --format=openvino --precision=int8 ...

DIR then holds the model, for JAX alone, ONNX Runtime or OpenVINO, its
description, detector.json, and preprocess.py, which makes the model's input.
Models in int8 and float16 get thresholds of their own, from the run's good
images or those of --input, and DIR has a report, conversion.md.
"""

import functools
import itertools
from typing import TYPE_CHECKING, Any

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console, doing
from simplenet_jax.data import files

if TYPE_CHECKING:
  from simplenet_jax.detection.quantise import Images
  from simplenet_jax.detector import Detector

_DETECTOR = flags.DEFINE_string('detector', None, 'In WORKDIR/detectors.')
_FORMATS = 'stablehlo', 'onnx', 'openvino'
_FORMAT = flags.DEFINE_enum('format', 'stablehlo', _FORMATS, "The model's.")
_FIXED_BATCH = flags.DEFINE_integer(
  'fixed_batch', 0, 'How many images each call takes; 0: any number.', 0
)
_PRECISIONS = 'float32', 'float16', 'int8'
_QUICK = 'int8 is small and quick.'
_PRECISION = flags.DEFINE_enum('precision', 'float32', _PRECISIONS, _QUICK)
_INPUT = flags.DEFINE_string(
  'input', None, 'Good images, for int8 and float16; else those of the run.'
)
_ALLOW_CHANGED = flags.DEFINE_float(
  'allow_changed', 0.03, 'The share of verdicts that int8 may change.', 0, 1
)
_OUTPUT = flags.DEFINE_string('output', None, 'Where the files go, a folder.')
_OVERWRITE = cli.define_overwrite()
cli.require('detector', 'output')


def main() -> None:
  """Exports."""
  # Wrong flags are refused before JAX is loaded, which takes seconds.
  folder = cli.folder(_OUTPUT.value or '', '--output')
  precision, kind, given = _PRECISION.value or '', _FORMAT.value or '', None
  for flag in (_INPUT, _ALLOW_CHANGED):
    if precision == 'float32' and flag.present:
      raise ValueError(f'--{flag.name} is for --precision=int8 and float16')
  if precision != 'float32' and kind == 'stablehlo':
    raise ValueError('--precision is for --format=onnx and --format=openvino')
  if _INPUT.value:
    given = files.locate(_INPUT.value, '--input', good=True)
    console.print(given.tell('to set thresholds'))
  with doing('loads JAX'):
    from simplenet_jax.detection import export, thresholds
    from simplenet_jax.detector import Detector

  detector = Detector.load(_DETECTOR.value or '')
  told = '' if precision == 'float32' else f', {precision},'
  console.print(f'Exports {detector.card.name} as {kind}{told} to {folder}/')
  options = _OVERWRITE.value, _FIXED_BATCH.value
  if precision != 'float32':
    with export.needs_packages(kind):
      from simplenet_jax.detection import conversion, quantise

    new = [(detector, given.images)] if given else []
    images = quantise.Images(new, '--input') if new else _of_run(detector)
    with doing('makes the model, and judges with both'):
      report = conversion.export_rounded(
        *(detector, kind, folder, precision, images),
        *(_ALLOW_CHANGED.value, *options),
      )
    told = '\n'.join(conversion.told(report))
    console.print(f'{told}\nThe report: {folder}/conversion.md')
    return
  with doing('makes the model and compares it with the detector'):
    difference = export.export(detector, kind, folder, *options)
  limits = '\n    '.join(thresholds.describe(detector.thresholds))
  model, *_ = export.FORMATS[kind].files
  console.print(
    f"  {model}: its scores differ from the detector's by "
    f'{difference:.1e} of their range at most\n  detector.json: {limits}\n'
    '  preprocess.py: makes its input; docs/export.md has an example'
  )


def _of_run(detector: 'Detector') -> 'Images':
  from simplenet_jax.config import load_config
  from simplenet_jax.data import dataset
  from simplenet_jax.data.images import place
  from simplenet_jax.detection import assembly, quantise
  from simplenet_jax.evaluation.testset import TestSet
  from simplenet_jax.training import checkpoint, layout, neighbours

  remedy = 'give good images that were not trained on with --input=FOLDER'
  name, workdir = detector.card.name, detector.workdir
  if not workdir or not (workdir / 'run.json').exists():
    raise ValueError(f'{name} lies in no work directory; {remedy}')
  config = load_config(str(workdir))
  try:
    opened = dataset.open_categories(config.data, whole=False).categories
    one = next(found for found in opened if found.name == name)
  except (OSError, ValueError, StopIteration) as error:
    why = str(error) or 'they are gone'
    told = f"{name}: the run's images cannot be used ({why}); {remedy}"
    raise ValueError(told) from None
  folds, category = layout.folds(config, one), one.category
  used = category.validation or category.train
  known = {good.name for good in detector.thresholds.good}
  if known and not known <= {str(place(file)) for file in used}:
    told = f"{name}: its threshold comes from other images than the run's"
    raise ValueError(f'{told}; give these with --input=FOLDER')
  if folds is None and not category.validation:
    raise ValueError(f'{name}: the run held no good images back; {remedy}')
  good, others, count = [(detector, category.validation)], category.train, 0
  if folds is not None:
    places, count, others = None, len(config.seeds), ()
    if detector.card.heads not in (0, count):
      raise ValueError(f'{name}: some heads were given up; {remedy}')
    if detector.card.nearest:
      path = neighbours.path_in(workdir, name)
      places = checkpoint.read(path)[0]['places']
    good = []
    for part in range(count):
      gone = None if places is None else folds[places] == part
      own = [*itertools.compress(category.train, folds == part)]
      good.append((assembly.without_part(detector, part, gone), own))
  tested, test = [sample.path for sample in category.test], None
  if one.labels.any():
    test = functools.partial(_aurocs, TestSet.read(one, 0.0))
  return quantise.Images(good, 'the run', others, count, tested, test)


def _aurocs(test: Any, scores: Any, maps: Any) -> dict[str, float]:
  """Returns AUROCs of test scores `[images]` and maps `[images, *size]`."""
  from simplenet_jax.evaluation import metrics

  found, here = {'I-AUROC': metrics.auroc(test.labels, scores)}, test.counted
  if test.masks is not None:
    shown = maps[test.has_truth][:, here]
    found['P-AUROC'] = metrics.auroc(test.masks[:, here], shown)
  return found


if __name__ == '__main__':
  cli.run(main)
