"""What a run ships of a category: what its training images looked like."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import folder, inputs
from simplenet_jax.detection.shipper import Shipper
from simplenet_jax.detector import Detector
from simplenet_jax.models.weights import Weights
from tests.detection import detectors
from tests.detection.test_appearance import parts


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
  (category,) = folder.find_categories(root)
  state = detectors.backbone(levels=(1,))
  workdir = tmp_path_factory.mktemp('run')
  loaded = Weights(state, Path('w.pth'), '0' * 64, 'random')
  one = inputs.prepare(category, config.data)
  Shipper(config, loaded, workdir).ship(one, {0: detectors.make_head(0)})
  return Detector.load(workdir / 'detectors' / one.name), images


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


def test_it_keeps_no_folder_of_the_machine(shipped):
  card = shipped[0].card
  assert card.provenance['data']['root'] == 'parts'
  assert card.provenance['config']['data']['root'] == 'parts'
  assert '/train/good' not in card.to_json()


def test_its_own_images_are_not_told(shipped, caplog):
  detector, images = shipped
  list(detector.predict(images[::8]))
  assert not caplog.records
