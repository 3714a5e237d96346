"""Measures what int8 does to real parts: verdicts, figures, size and speed.

  python -m benchmarks.quantise --root=FOLDER --weights=resnet18.safetensors

FOLDER holds parts in MVTec AD's layout. A detector of each is trained with
--config=folder at 256 pixels, with the embedded EfficientNet-Lite0 and with a
ResNet18, and exported to ONNX and OpenVINO by `simplenet export`. What is
trained already in --workdir is not trained again. Milliseconds are medians of
single images, float32 and int8 in turns. Writes results/quantise.json.
"""

import json
import pathlib
import subprocess
import sys

from absl import flags

from benchmarks import timing
from simplenet_jax import cli

_ROOT = flags.DEFINE_string('root', '', 'The folder of parts.')
_PARTS = flags.DEFINE_list(
  'parts', ['screw', 'transistor', 'toothbrush', 'glassfiber'], 'Which parts.'
)
_WEIGHTS = flags.DEFINE_string('weights', '', "ImageNet's ResNet18.")
_WORKDIR = flags.DEFINE_string('workdir', 'runs/quantise', 'For detectors.')
_SIDE = 256
_KEPT = (
  'verdicts',
  'thresholds',
  'mean_change',
  'deviation_of_change',
  'largest_change',
  'deviation_of_good_images',
  'images',
  'test',
  'layers',
  'bytes',
)


def simplenet(*arguments: str) -> str:
  """Runs a command; returns its error, or '' if it went well."""
  command = [sys.executable, '-m', 'simplenet_jax', *arguments]
  done = subprocess.run(  # noqa: S603 - our own.
    command, check=False, stderr=subprocess.PIPE, text=True
  )
  return done.stderr.strip().split('\n')[-1] if done.returncode else ''


def measure(backbone: str, weights: str, part: str) -> dict[str, object]:
  """Returns what the reports of a part's two exports say, or why not."""
  workdir = pathlib.Path(_WORKDIR.value) / backbone
  detector = workdir / 'detectors' / f'{part}.safetensors'
  if not detector.exists():
    settings = [f'--config.data.categories={",".join(_PARTS.value)}']
    settings += [f'--config.data.resize={_SIDE}', f'--workdir={workdir}']
    settings += [f'--config.backbone.name={backbone}']
    settings += [f'--config.backbone.weights={weights}'] if weights else []
    root = f'--config.data.root={_ROOT.value}'
    if error := simplenet('train', '--config=folder', root, *settings):
      raise ValueError(error)
  found = {}
  for kind in ('openvino', 'onnx'):
    folder = workdir / 'exports' / f'{part}-{kind}'
    given = f'--detector={detector}', f'--format={kind}', f'--output={folder}'
    error = simplenet('export', *given, '--precision=int8', '--overwrite')
    found[kind] = {'refused': error}
    if not error:
      report = json.loads((folder / 'conversion.json').read_text())
      report['layers'].pop('harm')
      found[kind] = {name: report.get(name) for name in _KEPT}
      found[kind]['milliseconds'] = report['milliseconds']
  return found


def main() -> None:
  """Measures and writes, after each part."""
  found: dict[str, object] = {
    'what': 'exports in int8, beside float32, each by its own thresholds',
    'side': _SIDE,
  }
  for backbone, weights in (
    ('efficientnet_lite0', ''),
    ('resnet18', _WEIGHTS.value),
  ):
    for part in _PARTS.value:
      found[f'{part}, {backbone}'] = measure(backbone, weights, part)
      timing.write('quantise', found)


if __name__ == '__main__':
  cli.run(main)
