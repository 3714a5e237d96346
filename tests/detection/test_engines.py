"""What runs exported models, in a process that goes on."""

import pytest

from tests import commands

SEVERAL = """
import faulthandler, os, signal

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from simplenet_jax.detection import engines

faulthandler.enable()  # By a stack for signals, as OpenVINO has one.
kernel = numpy_helper.from_array(np.ones((8, 3, 3, 3), 'f'), 'kernel')
info, FLOAT = helper.make_tensor_value_info, TensorProto.FLOAT
pixels = info('pixels', FLOAT, [1, 3, 9, 9])
found = info('found', FLOAT, None)
node = helper.make_node('Conv', ['pixels', 'kernel'], ['found'])
graph = helper.make_graph([node], 'graph', [pixels], [found], [kernel])
opset = helper.make_opsetid('', 21)
model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
loaded = [engines.load_openvino(model.SerializeToString()) for _ in range(2)]
while loaded:
  del loaded[0]  # The first one ends first.
signal.signal(signal.SIGTERM, lambda *_: print('heeded', flush=True))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_heeded_after_several_models():
  pytest.importorskip('openvino')
  ended = commands.python('-c', SEVERAL)
  assert (ended.returncode, ended.stdout) == (0, 'heeded\n'), ended.stderr
