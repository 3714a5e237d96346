"""Exported files in environments that have nothing but what runs them."""

import json
import subprocess
import sys

import jax
import onnxruntime
import pytest

from simplenet_jax.detection import bundle
from tests.detection import detectors

# What the README tells users to write.
STABLEHLO = """
import jax, sys
from preprocess import preprocess
with open('model.stablehlo', 'rb') as file:
  run = jax.export.deserialize(bytearray(file.read())).call
"""
ONNX = """
import onnxruntime, sys
from preprocess import preprocess
session = onnxruntime.InferenceSession('model.onnx')
run = lambda pixels: session.run(None, {'pixels': pixels})
"""
SCORES = """
import json
limit = json.load(open('detector.json'))['thresholds']['image']
found = [float(run(preprocess(path))[1][0]) for path in sys.argv[1:]]
print(json.dumps([[score, score > limit] for score in found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ('kind', 'packages', 'program'),
  [
    ('stablehlo', [f'jax=={jax.__version__}', 'flatbuffers'], STABLEHLO),
    ('onnx', [f'onnxruntime=={onnxruntime.__version__}'], ONNX),
  ],
)
@pytest.mark.parametrize('crop', [0, 48])
def test_a_bare_machine_gives_the_same_verdicts(
  tmp_path, kind, packages, program, crop
):
  detector = detectors.make(crop=crop, thresholds=True)
  paths = detectors.pictures(tmp_path / 'images')
  expected = list(detector.predict(paths))
  bundle.export(detector, kind, tmp_path / 'out')
  python = tmp_path / 'venv' / 'bin' / 'python'
  subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'venv'], check=True)
  subprocess.run(
    [python, '-m', 'pip', 'install', '--quiet', 'pillow', *packages], check=True
  )
  text = subprocess.run(
    [python, '-c', program + SCORES, *paths],
    cwd=tmp_path / 'out',
    check=True,
    capture_output=True,
    text=True,
  ).stdout
  found = json.loads(text)
  assert [verdict for _, verdict in found] == [p.anomalous for p in expected]
  assert {verdict for _, verdict in found} == {True, False}
  assert [score for score, _ in found] == pytest.approx(
    [p.score for p in expected], abs=1e-4
  )
