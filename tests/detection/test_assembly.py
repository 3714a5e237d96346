"""Detectors of a run's heads, and of the released code's checkpoints."""

import numpy as np
import pytest
import torch
from PIL import Image

from simplenet_jax.data import folder, inputs
from simplenet_jax.detection import assembly, file
from simplenet_jax.detector import Detector
from simplenet_jax.models import head
from simplenet_jax.models.weights import files
from tests.detection import detectors
from tests.detection.detectors import assert_range
from tests.test_import_released import DIM, HIDDEN, Released


@pytest.fixture(scope='module')
def shipped(tmp_path_factory):
  """A detector of eighty training images, and these."""
  root = tmp_path_factory.mktemp('data') / 'parts'
  (root / 'train/good').mkdir(parents=True)
  images = detectors.parts(80, (40, 60))
  for index, pixels in enumerate(images):
    Image.fromarray(pixels).save(root / f'train/good/{index:03}.png')
  config = detectors.make_config()
  config.data.root = str(root)
  config.backbone.levels = (1,)
  (category,) = folder.find(root).categories
  loaded, one = detectors.loaded((1,)), inputs.prepare(category, config.data)
  heads, cautions = {0: detectors.make_head(0)}, ['it has learned nothing']
  made = assembly.of_run(config, loaded, one, heads, '80 train', cautions)
  path = tmp_path_factory.mktemp('run') / 'part.safetensors'
  made.save(path)
  assert assembly.is_made_of(path, [0], '80 train')
  assert not assembly.is_made_of(path, [0, 1], '80 train')
  assert not assembly.is_made_of(path, [0], '81 train')
  whole = path.read_bytes()
  path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # As a disk may do.
  assert not assembly.is_made_of(path, [0], '80 train')
  path.unlink()
  assert not assembly.is_made_of(path, [0], '80 train')
  path.write_bytes(whole)
  return path, images


def warnings(caplog):
  return [one.getMessage() for one in caplog.records]


def test_it_knows_its_training_images_and_how_they_score(shipped, caplog):
  path, images = shipped
  detector = Detector.load(path)
  assert warnings(caplog) == [f'{path}: it has learned nothing']
  maps = [found.input_map for found in detector.predict(images)]
  assert len(caplog.records) == 1  # Its own images are not told.
  median, highest = detector.card.usual
  spread = 0.05 * float(np.ptp(maps))
  assert median == pytest.approx(np.median(maps), abs=spread)
  assert np.percentile(maps, 99) < highest <= np.max(maps) + 1e-4
  found = detector.card.appearance
  assert found.aspect == (1.5, 1.5)
  mean = np.reshape(found.mean, (8, 8, 3)).mean((0, 1))
  np.testing.assert_allclose(mean, np.mean(images, (0, 1, 2)), atol=1)
  gray = np.mean(images, (1, 2, 3))
  # Of sixty-four of eighty.
  assert gray.min() - 1 <= found.gray[0] <= found.gray[1] <= gray.max() + 1


def test_it_warns_once_of_images_that_have_changed(shipped, caplog):
  known = Detector.load(shipped[0])
  wrong = [pixels[..., ::-1] for pixels in shipped[1][:3]]
  list(known.predict(wrong, channels='bgr'))
  caplog.clear()
  for _ in range(2):
    list(known.predict(wrong))
  (told,) = warnings(caplog)
  assert told.startswith('image 0: fits the training images far better with')


def test_it_keeps_its_cautions_and_no_folder_of_the_machine(shipped):
  card, _ = file.load(shipped[0])
  assert card.cautions == ('it has learned nothing',)
  assert card.provenance['data'] == {'root': 'parts', 'images': '80 train'}
  assert card.provenance['config']['data']['root'] == 'parts'
  assert '/train/good' not in card.to_json()
  paths = {
    '/home/me/parts/': 'parts',
    '~/w.pth': 'w.pth',
    '../data/x': 'x',
    'C:\\Users\\me\\x.png': 'x.png',
    '\\\\server\\share\\x': 'x',
    'data/mvtec': 'data/mvtec',
    'NVIDIA H200': 'NVIDIA H200',
  }
  made = assembly.assemble(
    detectors.make_config(),
    'part',
    (32, 40),
    detectors.loaded(),
    [detectors.make_head(0)],
    {'paths': {'all': list(paths)}, 'seeds': [0, None, 1.5]},
  )
  assert made.card.provenance['paths'] == {'all': list(paths.values())}
  assert made.card.provenance['seeds'] == [0, None, 1.5]


PARTS = {'discriminator': 'discriminator', 'pre_projection': 'adaptor'}


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
  torch.save(state, tmp_path / 'ckpt.pth')
  leaves = files.load_released(tmp_path / 'ckpt.pth', DIM)
  found = scores(leaves, golden['features'][0])
  assert_range(found, golden['final_scores'])


def test_the_adaptor_may_have_no_bias(tmp_path):
  state = Released().state()
  del state['pre_projection']['layers.0fc.bias']
  torch.save(state, tmp_path / 'ckpt.pth')
  leaves = files.load_released(tmp_path / 'ckpt.pth', DIM)
  zero = {'params.adaptor.0.bias': np.zeros(DIM, 'f')}
  features = np.random.default_rng(0).normal(size=(40, DIM))
  assert_range(scores(leaves, features), scores(leaves | zero, features))


NORM = 'body.block1.1'


@pytest.mark.parametrize(
  ('part', 'name', 'value', 'message'),
  [
    ('pre_projection', None, torch.zeros(3), 'unknown: pre_projection.layers'),
    ('discriminator', 'tail.weight', None, 'unknown: discriminator.tail'),
    ('pre_projection', 'x.weight', torch.zeros(3), 'unknown: pre_projection.x'),
    (
      'pre_projection',
      'layers.0fc.weight',
      torch.zeros(DIM, 9),
      r'adaptor.0.kernel is \[9, 24\], expected \[24, 24\]; set '
      r'--config\.patch\.target_dim',
    ),
    ('discriminator', f'{NORM}.weight', torch.zeros(1, HIDDEN), 'is .*8, 1'),
    ('discriminator', f'{NORM}.bias', torch.full((HIDDEN,), torch.nan), 'fini'),
    ('discriminator', 'tail.weight', 'text', 'damaged, or not a file of'),
  ],
)
def test_other_checkpoints_are_refused(tmp_path, part, name, value, message):
  state = Released().state()
  where, key = (state[part], name) if name else (state, part)
  if value is None:
    del where[key]
  else:
    where[key] = value
  torch.save(state, tmp_path / 'ckpt.pth')
  assert_refused(tmp_path / 'ckpt.pth', message)


def assert_refused(path, message, dim=DIM):
  with pytest.raises(ValueError, match=f'{path}: .*{message}') as caught:
    files.load_released(path, dim)
  assert '\n' not in str(caught.value)


def test_other_files_are_refused(tmp_path):
  path = tmp_path / 'ckpt.pth'
  with pytest.raises(FileNotFoundError, match=f'{path}: no such checkpoint'):
    files.load_released(path, DIM)
  torch.save(Released().state(), path)
  assert_refused(path, r'is \[24, 24\], expected \[1536, 1536\]; set', 1536)
  path.write_bytes(path.read_bytes()[:-1])
  assert_refused(path, 'damaged, or not a file of named tensors')
