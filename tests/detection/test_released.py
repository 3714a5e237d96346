"""Checkpoints of the released code become heads, or are refused."""

import numpy as np
import pytest
import torch

from simplenet_jax.config import from_protocol
from simplenet_jax.detection import released
from simplenet_jax.models import head
from tests.detection.detectors import assert_range
from tests.models.test_weights import Trap

DIM, HIDDEN = 24, 16
PARTS = {'discriminator': 'discriminator', 'pre_projection': 'adaptor'}


@pytest.fixture
def config():
  config = from_protocol()
  config.patch.target_dim = DIM
  return config


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
  return np.ravel(head.apply(head.fold([leaves]), levels, [0], 'float32'))


@pytest.mark.parametrize('name', ['head_training', 'head_training_partial'])
def test_scores_are_those_of_the_released_code(tmp_path, config, shared, name):
  golden = np.load(shared(f'golden/{name}.npz'))
  state = {part: {} for part in PARTS}
  for part, recorded in PARTS.items():
    prefix = f'final.{recorded}.'
    for key in golden.files:
      if key.startswith(prefix):
        state[part][key.removeprefix(prefix)] = torch.tensor(golden[key])
  assert all(state.values())
  torch.save(state, tmp_path / 'ckpt.pth')
  leaves = released.load(tmp_path / 'ckpt.pth', config)
  found = scores(leaves, golden['features'][0])
  assert_range(found, golden['final_scores'])


@pytest.mark.parametrize('bias', [True, False])
def test_a_head_is_the_torch_modules(tmp_path, config, bias):
  state = checkpoint(bias)
  torch.save(state, tmp_path / 'ckpt.pth')
  adaptor = torch.nn.Linear(DIM, DIM, bias=bias)
  body = torch.nn.Sequential(
    torch.nn.Linear(DIM, HIDDEN),
    torch.nn.BatchNorm1d(HIDDEN),
    torch.nn.LeakyReLU(0.2),
    torch.nn.Linear(HIDDEN, 1, bias=False),
  ).eval()
  load = {
    name.replace('body.block1.', '').replace('tail', '3'): value
    for name, value in state['discriminator'].items()
  }
  body.load_state_dict(load)
  adaptor.load_state_dict(
    {
      name.removeprefix('layers.0fc.'): value
      for name, value in state['pre_projection'].items()
    }
  )
  features = np.random.default_rng(0).normal(size=(40, DIM))
  rows = torch.tensor(features)
  expected = -body.double()(adaptor.double()(rows)).detach().numpy()[:, 0]
  leaves = released.load(tmp_path / 'ckpt.pth', config)
  assert ('params.adaptor.0.bias' in leaves) == bias
  assert_range(scores(leaves, features), expected)


def drop(part, name):
  def change(state):
    del state[part][name]

  return change


def put(part, name, value):
  def change(state):
    state[part][name] = value

  return change


def part(name, value):
  def change(state):
    state[name] = value

  return change


NORM = 'body.block1.1'


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda state: state.clear(), 'discriminator and pre_projection not in it'),
    (lambda state: state.pop('discriminator'), 'code, discriminator not in it'),
    (lambda state: state.pop('pre_projection'), 'pre_projection not in it'),
    (part('pre_projection', torch.zeros(3)), 'pre_projection not in it'),
    (part('discriminator', {}), 'missing or unknown: discriminator.body'),
    (
      drop('discriminator', 'tail.weight'),
      'unknown: discriminator.tail.weight',
    ),
    (drop('discriminator', f'{NORM}.running_var'), f'{NORM}.running_var'),
    (drop('pre_projection', 'layers.0fc.weight'), r'layers\.0fc\.weight'),
    (
      put('pre_projection', 'layers.1fc.weight', torch.zeros(DIM, DIM)),
      'layers.1fc.weight; expected one linear layer',
    ),
    (
      put('discriminator', 'body.block2.0.weight', torch.zeros(9, HIDDEN)),
      'body.block2.0.weight; expected one linear layer',
    ),
    (
      put('pre_projection', 'layers.0fc.weight', torch.zeros(DIM, 9)),
      r'adaptor.0.kernel is \[9, 24\], expected \[24, 24\]; set '
      r'--config\.patch\.target_dim',
    ),
    (
      put('pre_projection', 'layers.0fc.bias', torch.zeros(1)),
      r'adaptor.0.bias is \[1\], expected \[24\]',
    ),
    (
      put('discriminator', 'body.block1.0.weight', torch.zeros(HIDDEN, 9)),
      r'discriminator.first.kernel is \[9, 16\], expected \[24, 16\]',
    ),
    (
      put('discriminator', 'tail.weight', torch.zeros(2, HIDDEN)),
      r'discriminator.tail.kernel is \[16, 2\], expected \[16, 1\]',
    ),
    (
      put('discriminator', f'{NORM}.running_mean', torch.zeros(1)),
      r'discriminator.norm.mean is \[1\], expected \[16\]',
    ),
    (
      put('discriminator', f'{NORM}.weight', torch.zeros(1, HIDDEN)),
      r'discriminator.norm.scale is \[16, 1\], expected \[16\]',
    ),
    (
      put('discriminator', f'{NORM}.bias', torch.full((HIDDEN,), torch.nan)),
      f'{NORM}.bias is not finite',
    ),
    (
      put('discriminator', 'tail.weight', torch.full((1, HIDDEN), torch.inf)),
      'tail.weight is not finite',
    ),
    (
      put('discriminator', 'tail.weight', 'text'),
      'tail.weight is not finite',
    ),
  ],
)
def test_other_checkpoints_are_refused(tmp_path, config, change, message):
  state = checkpoint()
  change(state)
  torch.save(state, tmp_path / 'ckpt.pth')
  assert_refused(tmp_path / 'ckpt.pth', config, message)


def assert_refused(path, config, message):
  with pytest.raises(ValueError, match=message) as caught:
    released.load(path, config)
  text = str(caught.value)
  assert text.startswith(f'{path}: ')
  assert '\n' not in text


def test_another_size_than_the_configs_is_refused(tmp_path, config):
  torch.save(checkpoint(), tmp_path / 'ckpt.pth')
  config.patch.target_dim = 1536
  message = r'kernel is \[24, 24\], expected \[1536, 1536\]; set --config'
  assert_refused(tmp_path / 'ckpt.pth', config, message)


def test_a_damaged_file_is_refused(tmp_path, config):
  path = tmp_path / 'ckpt.pth'
  torch.save(checkpoint(), path)
  content = path.read_bytes()
  for end in (0, 1, 99, len(content) // 2, len(content) - 1):
    path.write_bytes(content[:end])
    assert_refused(path, config, 'damaged, or not a file of tensors')
  path.write_bytes(b'PK\x03\x04' + content[99:])
  assert_refused(path, config, 'damaged, or not a file of tensors')


def test_a_missing_file_is_told(tmp_path, config):
  for path in (tmp_path / 'none.pth', tmp_path):
    with pytest.raises(FileNotFoundError, match='no such checkpoint') as caught:
      released.load(path, config)
    assert str(path) in str(caught.value)


def test_other_files_are_refused(tmp_path, config):
  path = tmp_path / 'ckpt.pth'
  torch.save([torch.zeros(3)], path)
  assert_refused(path, config, r'not a file of tensors \(TypeError\)')
  torch.save(torch.nn.Linear(2, 2), path)
  assert_refused(path, config, r'not a file of tensors \(UnpicklingError\)')


def test_nothing_in_a_checkpoint_is_run(tmp_path, config):
  path, sprung = tmp_path / 'ckpt.pth', tmp_path / 'sprung'
  torch.save(checkpoint() | {'more': Trap(sprung)}, path)
  assert_refused(path, config, r'not a file of tensors \(UnpicklingError\)')
  assert not sprung.exists()
