"""The command that makes detectors of the released code's checkpoints."""

import collections
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from simplenet_jax.data import images
from simplenet_jax.detection import inputs
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.detector import Detector
from tests import commands
from tests.detection import detectors
from tests.models import test_patches, torch_resnet

DIM, HIDDEN, CROP = 24, 8, 32


def named(**modules):
  return torch.nn.Sequential(collections.OrderedDict(modules))


class Released:
  """The released code's network, and what it saves of it."""

  def __init__(self):
    self.backbone = torch_resnet.pad(
      torch_resnet.fabricate('resnet18'), 'reflect'
    )
    torch.manual_seed(1)
    linear, norm = torch.nn.Linear(DIM, HIDDEN), torch.nn.BatchNorm1d(HIDDEN)
    block = torch.nn.Sequential(linear, norm, torch.nn.LeakyReLU(0.2))
    tail = torch.nn.Linear(HIDDEN, 1, bias=False)
    self.discriminator = named(body=named(block1=block), tail=tail).eval()
    layers = named(**{'0fc': torch.nn.Linear(DIM, DIM)})
    self.projection = named(layers=layers).eval()
    # Weights as wide as these spread the scores of images alike, too.
    wide = (linear.weight, tail.weight, layers[0].weight)
    for value in (*wide, norm.weight, norm.bias, norm.running_mean):
      torch.nn.init.normal_(value)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)

  def state(self):
    """Returns what the released code saves."""
    return {
      'discriminator': self.discriminator.state_dict(),
      'pre_projection': self.projection.state_dict(),
    }

  @torch.no_grad()
  def predict(self, pixels):
    """Returns the map and the score of an image of the input's size."""
    x = torch.tensor(images.normalize(pixels[None])).movedim(-1, 1)
    outputs = list(self.backbone.activations(x))
    levels = [outputs[end].movedim(1, -1).numpy() for end in (4, 6)]
    features = test_patches.judge(levels, 3, DIM, DIM)
    rows = torch.tensor(features).reshape(-1, DIM)
    scores = -self.discriminator(self.projection(rows))
    scores = scores.reshape(1, 1, *features.shape[1:3])
    grid = torch.nn.functional.interpolate(
      scores, pixels.shape[:2], mode='bilinear', align_corners=False
    )
    return ndimage.gaussian_filter(grid[0, 0].numpy(), 4), scores.max().item()


@pytest.fixture(scope='module')
def released():
  return Released()


@pytest.fixture(scope='module')
def folder(tmp_path_factory, released):
  """Holds the checkpoint and the backbone."""
  folder = tmp_path_factory.mktemp('released')
  torch.save(released.state(), folder / 'ckpt.pth')
  torch.save(released.backbone.state_dict(), folder / 'backbone.pth')
  return folder


def run(folder, output):
  return commands.run(
    'import_released',
    '--config=configs/mvtec.py',
    f'--checkpoint={folder / "ckpt.pth"}',
    f'--output={output}',
    '--config.backbone.name=resnet18',
    f'--config.backbone.weights={folder / "backbone.pth"}',
    '--noconfig.backbone.probe',
    f'--config.patch.pretrain_dim={DIM}',
    f'--config.patch.target_dim={DIM}',
    '--config.data.resize=40',
    f'--config.data.crop={CROP}',
  )


def test_the_detector_scores_as_the_checkpoint(
  released, folder, tmp_path, monkeypatch
):
  output = tmp_path / 'bottle.safetensors'
  with monkeypatch.context() as patch:
    patch.setitem(sys.modules, 'torch', None)  # PyTorch is not needed.
    done = run(folder, tmp_path / 'bottle')
  assert done.status == 0, done.errors
  assert f'--detector={output} --input=FOLDER' in done.told
  assert [path.name for path in tmp_path.iterdir()] == [output.name]
  detector = Detector.load(output)
  found = list(detector.predict(detectors.arrays(3)))
  expected = []
  for pixels in detectors.arrays(3):
    (ready,) = inputs.ready(pixels, 16, detector.card.frame)
    expected.append(released.predict(ready.pixels))
  allowed = 1e-4 * float(np.ptp([heat for heat, _ in expected]))
  assert np.ptp([score for _, score in expected]) > 10 * allowed
  for one, (heat, score) in zip(found, expected, strict=True):
    assert one.score == pytest.approx(score, abs=allowed)
    np.testing.assert_allclose(one.input_map, heat, rtol=0, atol=allowed)
  assert (detector.card.name, detector.card.heads) == ('bottle', 1)
  assert detector.size == (CROP, CROP)
  assert detector.thresholds == Thresholds()
  provenance = detector.card.provenance
  assert provenance['checkpoint'] == 'ckpt.pth'  # No folder is told.
  assert provenance['config']['data']['crop'] == CROP
  assert provenance['protocol'].startswith('reference, but ')
  assert len(provenance['weights']['sha256']) == 64


def test_an_output_that_cannot_be_is_told_before_anything_is_read(tmp_path):
  (tmp_path / 'out').touch()
  done = run(tmp_path, tmp_path / 'out' / 'bottle')  # No checkpoint is there.
  assert done.status == 1
  assert done.error.endswith('out is not a folder; give another --output')
