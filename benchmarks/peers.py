"""Other projects' models, by anomalib's own classes, as OpenVINO runs them."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from simplenet_jax.detection import engines

SIDE = 256  # Of their input, in pixels, as anomalib has it.
_CALIBRATING = 4  # Images that int8 takes its ranges from.


def _model(name: str, kind: str, **options: Any) -> Any:
  module = f'anomalib.models.image.{name}.torch_model'
  return getattr(importlib.import_module(module), kind)(**options)


def _calls(*of: str, **options: Any) -> dict[str, Callable[[], object]]:
  """Returns what judges one image in float32 and in int8."""
  import torch

  openvino = engines.import_openvino()
  nncf: Any = importlib.import_module('nncf')
  timm: Any = importlib.import_module('timm')
  known = timm.create_model
  # Weights cost a download, and no time afterwards.
  timm.create_model = lambda *given, **how: known(
    *given, **{**how, 'pretrained': False}
  )
  try:
    model = _model(*of, **options).eval()
  finally:
    timm.create_model = known

  class Tensors(torch.nn.Module):
    """Leaves out what is no tensor, which a trace cannot have."""

    def __init__(self) -> None:
      super().__init__()
      self.model = model.requires_grad_(False)

    def forward(self, image: Any) -> Any:
      every = self.model(image)
      return tuple(one for one in every if isinstance(one, torch.Tensor))

  image = torch.rand(1, 3, SIDE, SIDE)
  with torch.no_grad():
    whole = openvino.convert_model(Tensors(), example_input=image)
  whole.reshape([1, 3, SIDE, SIDE])
  images = [
    np.random.default_rng(i).random((1, 3, SIDE, SIDE), np.float32)
    for i in range(_CALIBRATING)
  ]
  small = nncf.quantize(whole, nncf.Dataset(images), subset_size=_CALIBRATING)
  found = {}
  options = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'}
  for kind, one in (('float32', whole), ('int8', small)):
    compiled = engines.openvino_core().compile_model(one, 'CPU', options)
    request = compiled.create_infer_request()
    found[f'OpenVINO {kind}'] = lambda run=request: run.infer([images[0]])
  return found


MODELS: dict[str, Callable[[], dict[str, Callable[[], object]]]] = {
  'SuperSimpleNet': functools.partial(
    *(_calls, 'supersimplenet', 'SupersimplenetModel'),
    backbone='wide_resnet50_2.tv_in1k',
  ),
  'EfficientAD-S': functools.partial(
    *(_calls, 'efficient_ad', 'EfficientAdModel'),
    **{'teacher_out_channels': 384, 'model_size': 'small'},
  ),
  'STFPM, resnet18': functools.partial(
    *(_calls, 'stfpm', 'STFPMModel'),
    **{'layers': ['layer1', 'layer2', 'layer3'], 'backbone': 'resnet18'},
  ),
}
