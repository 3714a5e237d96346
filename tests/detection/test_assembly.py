"""Detectors of a run's heads, and of the released code's checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simplenet_jax.data import folder, inputs
from simplenet_jax.detection import assembly
from simplenet_jax.detector import Detector
from simplenet_jax.models import head
from simplenet_jax.models.weights import Weights
from tests.detection import detectors
from tests.detection.detectors import assert_range
from tests.detection.test_appearance import parts
from tests.models.test_weights import Trap

DIM, HIDDEN = 24, 16


@pytest.fixture(scope='module')
def shipped(tmp_path_factory):
  """A detector of eighty training images, and these."""
  root = tmp_path_factory.mktemp('data') / 'parts'
  (root / 'train/good').mkdir(parents=True)
  images = parts(80, (40, 60))
  for index, pixels in enumerate(images):
    Image.fromarray(pixels).save(root / f'train/good/{index:03}.png')
  config = detectors.make_config()
  config.data.root = str(root)
  config.backbone.levels = (1,)
  (category,) = folder.find(root).categories
  state = detectors.backbone(levels=(1,))
  workdir = tmp_path_factory.mktemp('run')
  loaded = Weights(state, Path('w.pth'), '0' * 64, 'random')
  one = inputs.prepare(category, config.data)
  shipper = assembly.Shipper(config, loaded, workdir)
  heads = {0: detectors.make_head(0)}
  shipper.ship(one, heads, '80 train', ['it has learned nothing'])
  assert shipper.has(one.name, [0], '80 train')
  assert not shipper.has(one.name, [0, 1], '80 train')
  assert not shipper.has(one.name, [0], '81 train')
  path = workdir / 'detectors' / f'{one.name}.safetensors'
  whole = path.read_bytes()
  path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # As a disk may do.
  assert not shipper.has(one.name, [0], '80 train')
  path.unlink()
  assert not shipper.has(one.name, [0], '80 train')
  path.write_bytes(whole)
  return Detector.load(path), images


def test_it_knows_its_training_images(shipped):
  detector, images = shipped
  found = detector.card.appearance
  assert found.aspect == (1.5, 1.5)
  expected = np.mean([pixels.mean((0, 1)) for pixels in images], 0)
  mean = np.reshape(found.mean, (8, 8, 3)).mean((0, 1))
  np.testing.assert_allclose(mean, expected, atol=1)
  gray = [pixels.mean() for pixels in images]
  # Of sixty-four of eighty.
  assert min(gray) - 1 <= found.gray[0] <= found.gray[1] <= max(gray) + 1


def test_it_knows_how_its_training_images_score(shipped):
  detector, images = shipped
  maps = [found.input_map for found in detector.predict(images)]
  median, highest = detector.card.usual
  assert median == pytest.approx(
    np.median(maps), abs=0.05 * float(np.ptp(maps))
  )
  assert np.percentile(maps, 99) < highest <= np.max(maps) + 1e-4


def test_it_keeps_its_cautions_and_no_folder_of_the_machine(shipped):
  card = shipped[0].card
  assert card.cautions == ('it has learned nothing',)
  assert card.provenance['data'] == {'root': 'parts', 'images': '80 train'}
  assert card.provenance['config']['data']['root'] == 'parts'
  assert '/train/good' not in card.to_json()


def test_its_own_images_are_not_told(shipped, caplog):
  detector, images = shipped
  list(Detector(detector.card, detector.weights).predict(images[::8]))
  assert [one.getMessage() for one in caplog.records] == [
    'this detector: it has learned nothing'
  ]


PARTS = {'discriminator': 'discriminator', 'pre_projection': 'adaptor'}


def checkpoint(bias=True):
  """Returns what the released code saves, with random values."""
  generator = torch.Generator().manual_seed(0)

  def random(*shape):
    return torch.randn(*shape, generator=generator)

  adaptor = {'layers.0fc.weight': random(DIM, DIM)}
  if bias:
    adaptor['layers.0fc.bias'] = random(DIM)
  return {
    'discriminator': {
      'body.block1.0.weight': random(HIDDEN, DIM),
      'body.block1.0.bias': random(HIDDEN),
      'body.block1.1.weight': random(HIDDEN),
      'body.block1.1.bias': random(HIDDEN),
      'body.block1.1.running_mean': random(HIDDEN),
      'body.block1.1.running_var': random(HIDDEN).abs() + 0.1,
      'body.block1.1.num_batches_tracked': torch.tensor(40),
      'tail.weight': random(1, HIDDEN),
    },
    'pre_projection': adaptor,
  }


def scores(leaves, features):
  """Scores rows of features with a folded head."""
  levels = [features.astype(np.float32)[:, None, None]]
  weights = head.fold([leaves])
  return np.ravel(head.apply(weights, levels, [0], 'float32'))


@pytest.mark.parametrize('name', ['head_training', 'head_training_partial'])
def test_scores_are_those_of_the_released_code(tmp_path, shared, name):
  golden = np.load(shared(f'golden/{name}.npz'))
  state = {part: {} for part in PARTS}
  for part, recorded in PARTS.items():
    prefix = f'final.{recorded}.'
    for key in golden.files:
      if key.startswith(prefix):
        state[part][key.removeprefix(prefix)] = torch.tensor(golden[key])
  assert all(state.values())
  torch.save(state, tmp_path / 'ckpt.pth')
  leaves = assembly.load_released(tmp_path / 'ckpt.pth', DIM)
  found = scores(leaves, golden['features'][0])
  assert_range(found, golden['final_scores'])


def test_the_adaptor_may_have_no_bias(tmp_path):
  torch.save(checkpoint(bias=False), tmp_path / 'ckpt.pth')
  leaves = assembly.load_released(tmp_path / 'ckpt.pth', DIM)
  assert 'params.adaptor.0.bias' not in leaves
  state = checkpoint(bias=False)
  state['pre_projection']['layers.0fc.bias'] = torch.zeros(DIM)
  torch.save(state, tmp_path / 'ckpt.pth')
  zeros = assembly.load_released(tmp_path / 'ckpt.pth', DIM)
  features = np.random.default_rng(0).normal(size=(40, DIM))
  assert_range(scores(leaves, features), scores(zeros, features))


NORM = 'body.block1.1'


@pytest.mark.parametrize(
  ('part', 'name', 'value', 'message'),
  [
    ('discriminator', None, None, 'code, discriminator not in it'),
    ('pre_projection', None, torch.zeros(3), 'pre_projection not in it'),
    ('discriminator', None, {}, 'missing or unknown: discriminator.body'),
    ('discriminator', 'tail.weight', None, 'unknown: discriminator.tail'),
    ('discriminator', f'{NORM}.running_var', None, f'{NORM}.running_var'),
    (
      'pre_projection',
      'layers.1fc.weight',
      torch.zeros(DIM, DIM),
      'layers.1fc.weight; expected one linear layer',
    ),
    (
      'pre_projection',
      'layers.0fc.weight',
      torch.zeros(DIM, 9),
      r'adaptor.0.kernel is \[9, 24\], expected \[24, 24\]; set '
      r'--config\.patch\.target_dim',
    ),
    (
      'discriminator',
      'tail.weight',
      torch.zeros(2, HIDDEN),
      r'discriminator.tail.kernel is \[16, 2\], expected \[16, 1\]',
    ),
    (
      'discriminator',
      f'{NORM}.weight',
      torch.zeros(1, HIDDEN),
      r'discriminator.norm.scale is \[16, 1\], expected \[16\]',
    ),
    (
      'discriminator',
      f'{NORM}.bias',
      torch.full((HIDDEN,), torch.nan),
      f'{NORM}.bias is not finite',
    ),
    ('discriminator', 'tail.weight', 'text', 'tail.weight is not finite'),
  ],
)
def test_other_checkpoints_are_refused(tmp_path, part, name, value, message):
  state = checkpoint()
  where, key = (state[part], name) if name else (state, part)
  if value is None:
    del where[key]
  else:
    where[key] = value
  torch.save(state, tmp_path / 'ckpt.pth')
  assert_refused(tmp_path / 'ckpt.pth', message)


def assert_refused(path, message, dim=DIM):
  with pytest.raises(ValueError, match=message) as caught:
    assembly.load_released(path, dim)
  text = str(caught.value)
  assert text.startswith(f'{path}: ')
  assert '\n' not in text


def test_other_files_are_refused_and_nothing_in_them_is_run(tmp_path):
  path, sprung = tmp_path / 'ckpt.pth', tmp_path / 'sprung'
  torch.save(checkpoint(), path)
  assert_refused(path, r'is \[24, 24\], expected \[1536, 1536\]; set', 1536)
  content = path.read_bytes()
  for end in (0, 1, len(content) // 2, len(content) - 1):
    path.write_bytes(content[:end])
    assert_refused(path, 'damaged, or not a file of tensors')
  torch.save([torch.zeros(3)], path)
  assert_refused(path, r'not a file of tensors \(TypeError\)')
  torch.save(checkpoint() | {'more': Trap(sprung)}, path)
  assert_refused(path, r'not a file of tensors \(UnpicklingError\)')
  assert not sprung.exists()
  for missing in (tmp_path / 'none.pth', tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{missing}: no such check'):
      assembly.load_released(missing, DIM)
