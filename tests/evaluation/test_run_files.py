"""Which test images a category leaves for the page, and as what pictures."""

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import dataset
from simplenet_jax.evaluation import pictures, run_files, testset
from simplenet_jax.report import page
from tests.small import make_category, make_config


@pytest.mark.parametrize(
  ('labels', 'scores', 'count', 'shown'),
  [
    ([0, 0, 0, 0, 1, 1, 1, 1], [1, 4, 3, 2, 8, 5, 7, 6], 8, [*range(8)]),
    ([0, 0, 0, 0, 1, 1, 1, 1], [1, 4, 3, 2, 8, 5, 7, 6], 4, [1, 2, 5, 7]),
    ([0, 0, 0, 0, 1], [1, 4, 3, 2, 8], 4, [1, 2, 3, 4]),
    ([0, 1, 1, 1, 1], [2, 8, 5, 7, 6], 4, [0, 2, 3, 4]),
    ([0, 0, 0], [1, 3, 2], 2, [1, 2]),
    ([0, 1], [1, 3], 0, [0]),
  ],
)
def test_of_too_many_images_the_likeliest_errors_are_shown(
  labels, scores, count, shown
):
  labels, scores = np.array(labels), np.array(scores, np.float32)
  found = run_files.select_shown(labels, scores, count)
  assert found.tolist() == shown


@pytest.mark.parametrize(('height', 'width'), [(3, 3), (1, 1), (200, 2)])
def test_no_defect_is_too_small_to_be_outlined(height, width):
  rng = np.random.default_rng(0)
  image, heat = Image.new('RGB', (1500, 1200)), np.zeros((1200, 1500), 'f')
  for top, left in rng.integers(0, 1000, (9, 2)):
    mask = np.zeros(heat.shape, bool)
    mask[top : top + height, left : left + width] = True
    made = pictures.thumbnail(image, heat, mask, (0, 1), None)
    assert made['truth'].startswith('M'), (top, left)


def test_of_too_many_images_some_are_shown(tmp_path, monkeypatch):
  make_category(tmp_path / 'gear', train=2)
  config = make_config(tmp_path, '')
  config.data.categories = ('gear',)
  (inputs,) = dataset.open_categories(config.data).categories
  test = testset.TestSet.read(inputs, 0.1)
  scores = np.random.default_rng(0).normal(size=(6, 4, 4)).astype(np.float32)
  monkeypatch.setattr(run_files, 'MOST_SHOWN', 400)
  run_files.write(
    tmp_path, inputs, test, {0: scores}, config.evaluation, images=600
  )
  section = page.section(tmp_path, 'gear')
  assert len(section['images']) == 4
  assert any('4 of 6 test images' in note for note in section['notes'])
  assert 'of 3 defective' in section['verdicts']
  assert 'of 3 good' in section['verdicts']
