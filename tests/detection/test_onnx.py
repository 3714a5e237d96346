"""ONNX, as ONNX Runtime computes it.

jax2onnx takes ten seconds at its first use, so a fast run converts once.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from simplenet_jax.detection import bundle, onnx
from simplenet_jax.detector import Detector
from tests.detection import detectors

SIZE = (32, 40)


@pytest.fixture(scope='module')
def model(two_heads):
  """Of a detector that remembers a folder, as old ones do."""
  provenance = {**two_heads.card.provenance, 'checkpoint': '/secret/ckpt.pth'}
  card = dataclasses.replace(two_heads.card, provenance=provenance)
  return onnx.build(Detector(card, two_heads.weights))


@pytest.fixture(scope='module')
def session(model):
  return onnxruntime.InferenceSession(model)


def test_it_agrees_with_the_detector(two_heads, model, assert_agrees):
  run = onnx.runner(model)
  assert_agrees(run)
  assert bundle.compare(two_heads, run) <= bundle.TOLERANCE


def test_its_signature(session):
  (pixels,) = session.get_inputs()
  assert (pixels.name, pixels.type) == ('pixels', 'tensor(uint8)')
  images, *rest = pixels.shape
  assert isinstance(images, str)  # Any number of them.
  assert rest == [*SIZE, 3]
  maps, scores = session.get_outputs()
  assert (maps.name, maps.type) == ('anomaly_map', 'tensor(float)')
  assert (scores.name, scores.type) == ('score', 'tensor(float)')
  assert maps.shape == [images, *SIZE]
  assert scores.shape == [images]


def test_it_holds_the_card(session, two_heads):
  told = session.get_modelmeta().custom_metadata_map['detector']
  found = json.loads(told)
  assert found['provenance'].pop('checkpoint') == 'ckpt.pth'
  assert found == json.loads(two_heads.card.to_json())


def test_it_holds_no_folder_of_the_machine(model):
  assert b'secret/' not in model
  for file in (bundle.__file__, np.__file__):
    assert str(Path(file).parents[2]).encode() not in model


def test_nothing_around_the_convolutions_is_transposed(model):
  """Transpositions take time; only pixels and pooling need them."""
  import onnx as package

  nodes = package.load_from_string(model).graph.node
  kinds = [node.op_type for node in nodes]
  assert kinds.count('Conv') > 10
  assert kinds.count('Transpose') <= 2


@pytest.mark.slow
@pytest.mark.parametrize('crop', [0, 48])
@pytest.mark.parametrize('padding', ['zeros', 'reflect'])
@pytest.mark.parametrize(
  ('adaptor', 'heads'), [('linear', 1), ('mlp', 3), ('identity', 2)]
)
def test_every_kind_agrees_with_its_detector(
  tmp_path, crop, padding, adaptor, heads
):
  detector = detectors.make(
    crop=crop, padding=padding, adaptor=adaptor, heads=heads
  )
  assert bundle.export(detector, 'onnx', tmp_path) <= bundle.TOLERANCE
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'detector.json',
    'model.onnx',
    'preprocess.py',
  ]
