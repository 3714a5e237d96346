"""Which test images a category leaves for the page, and as what pictures."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import dataset
from simplenet_jax.evaluation import run_files, testset
from simplenet_jax.pictures import Scale, View
from simplenet_jax.report import page
from tests.small import make_category, make_config, picture


@pytest.mark.parametrize(
  ('kinds', 'order', 'count', 'shown'),
  [
    ('aabb', [0, 1, 2, 3], 4, [0, 1, 2, 3]),
    ('aaaabbbb', [1, 2, 3, 0, 5, 7, 6, 4], 4, [1, 2, 5, 7]),
    ('aaaab', [1, 2, 3, 0, 4], 4, [1, 2, 3, 4]),
    ('aabbc', [4, 3, 2, 1, 0], 3, [1, 3, 4]),
    ('ab', [0, 1], 1, [0]),
  ],
)
def test_images_are_picked_of_all_kinds_in_turn(kinds, order, count, shown):
  assert run_files.in_turn(kinds, order, count) == shown


def test_losses_are_read_back(tmp_path):
  losses = {3: [1.5, 0.5], 2**32 - 1: [2, 0.25]}
  history = {'loss': np.array([*losses.values()]), 'p': np.zeros((2, 2))}
  assert run_files.read_losses(tmp_path, 'gear') == {}
  run_files.write_curves(tmp_path, 'gear', [*losses], history)
  assert run_files.read_losses(tmp_path, 'gear') == losses
  (tmp_path / 'curves/gear.csv').write_text('')
  with pytest.raises(ValueError, match='unpack'):
    run_files.read_losses(tmp_path, 'gear')


def write(folder, images, scale=None, limit=None):
  """Writes the files of the category `gear` with random scores."""
  config = make_config(folder, '')
  config.data.categories = ('gear',)
  (inputs,) = dataset.open_categories(config.data).categories
  test = testset.TestSet.read(inputs, 0.1)
  shape = len(inputs.test), 4, 4
  scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  asked = inputs, test, {0: scores}, config.evaluation, images
  run_files.write(folder, *asked, scale, limit)
  return test.labels, test.image_scores(scores)


def test_a_sheet_begins_with_the_errors(tmp_path, monkeypatch):
  """Its verdicts, colours and outlines are those of the detector."""
  make_category(tmp_path / 'gear', train=2)
  shown, scale = [], Scale.of(-1, 3, 0.5)
  draw = View.beside
  monkeypatch.setattr(
    View,
    'beside',
    lambda view, *truth: shown.append(view) or draw(view, *truth),
  )
  labels, scores = write(tmp_path, 6, scale, 1.0)
  # Of four the likeliest two of each kind, the worst first.
  wrong = np.where(labels, 1 - scores, scores - 1)
  kinds = [np.sort(wrong[labels == kind])[-2:] for kind in (0, 1)]
  expected = sorted(np.concatenate(kinds).tolist(), reverse=True)
  found = [wrong[scores == view.score].item() for view in shown]
  assert found == pytest.approx(expected)
  assert {(view.scale, view.limit) for view in shown} == {(scale, 1.0)}
  assert (tmp_path / 'pictures/gear.png').exists()
  data = json.loads(run_files.report_path(tmp_path, 'gear').read_text())
  assert data['pixel_threshold'] == 0.5
  assert data['pixel_origin'] == "the detector's"


def test_no_defect_is_too_small_to_be_outlined(tmp_path):
  root, rng = tmp_path / 'gear', np.random.default_rng(0)
  picture(root / 'train/good/0.png')
  shapes = [(1, 1), (3, 3), (200, 2)] * 4
  for index, (height, width) in enumerate(shapes):
    mask = np.zeros((1200, 1500), np.uint8)
    top, left = rng.integers(0, 1000, 2)
    mask[top : top + height, left : left + width] = 255
    for kind, name in (('test', index), ('ground_truth', f'{index}_mask')):
      path = root / kind / 'hole' / f'{name}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(mask).save(path)
  write(tmp_path, 12)
  data = json.loads(run_files.report_path(tmp_path, 'gear').read_text())
  for one in data['images']:
    assert one['truth'].startswith('M'), one['name']
    assert one['size'] == [1500, 1200]


def test_of_too_many_images_the_likeliest_errors_are_shown(
  tmp_path, monkeypatch
):
  make_category(tmp_path / 'gear', train=2)
  monkeypatch.setattr(run_files, 'MOST_SHOWN', 400)
  write(tmp_path, 600)
  found = page.section(tmp_path, 'gear')
  assert len(found['images']) == 4
  assert (found['total'], found['defective']) == (6, 3)
  for one in found['images']:
    data = base64.b64decode(one['picture'].partition(',')[2])
    with Image.open(io.BytesIO(data)) as image:  # Small ones are not enlarged.
      assert image.size == tuple(one['size'])
