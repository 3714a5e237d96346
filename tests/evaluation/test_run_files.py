"""Which test images a category leaves for the page, and as what pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.data import dataset
from simplenet_jax.data.frame import Frame
from simplenet_jax.evaluation import run_files, testset
from simplenet_jax.pictures import Scale, View
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
  heads = {seed: {'loss': one, 'p': [0, 1]} for seed, one in losses.items()}
  assert run_files.read_losses(tmp_path, 'gear') == {}
  run_files.write_curves(tmp_path, 'gear', heads)
  assert run_files.read_losses(tmp_path, 'gear') == losses
  (tmp_path / 'curves/gear.csv').write_text('')
  with pytest.raises(ValueError, match='unpack'):
    run_files.read_losses(tmp_path, 'gear')


@pytest.fixture
def made(tmp_path):
  """The category `gear` with random patch scores."""
  make_category(tmp_path / 'gear', train=2)
  return opened(tmp_path)


def opened(folder):
  config = make_config(folder, '')
  config.data.categories = ('gear',)
  (inputs,) = dataset.open_categories(config.data).categories
  test = testset.TestSet.read(inputs, 0.1)
  shape = len(inputs.test), 4, 4
  scores = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  return scores, testset.Scored.of(inputs, test, scores)


def test_a_sheet_begins_with_the_errors(made, tmp_path, monkeypatch):
  """Its verdicts, colours and outlines are those of the detector."""
  _, scored = made
  shown, scale = [], Scale.of(-1, 3, 0.5)
  draw, titles, join = View.beside, [], pictures.sheet
  monkeypatch.setattr(
    pictures,
    'sheet',
    lambda title, *more: titles.extend(title) or join(title, *more),
  )
  monkeypatch.setattr(
    View,
    'beside',
    lambda view, *truth: shown.append(view) or draw(view, *truth),
  )
  path = tmp_path / 'pictures/gear.png'
  mine = 'seed 0', scored, 4, scale, 1.0, ['mine', 'chosen']
  run_files.write_sheet(path, *mine)
  labels, scores = scored.test.labels, scored.scores
  # Of four the likeliest two of each kind, the worst first.
  wrong = np.where(labels, 1 - scores, scores - 1)
  kinds = [np.sort(wrong[labels == kind])[-2:] for kind in (0, 1)]
  expected = sorted(np.concatenate(kinds).tolist(), reverse=True)
  found = [wrong[scores == view.score].item() for view in shown]
  assert found == pytest.approx(expected)
  assert {(view.scale, view.limit) for view in shown} == {(scale, 1.0)}
  assert titles[-2:] == [
    'Image limit 1.00: mine.',
    'Pixel limit 0.500: chosen.',
  ]
  assert path.exists()


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
  scores, scored = opened(tmp_path)
  for one in run_files.tested(scored, [scores], 12, -1.0):
    assert one['truth'].startswith('M'), one['name']
    assert one['size'] == (1500, 1200)


def opened_url(address):
  data = base64.b64decode(address.partition(',')[2])
  return Image.open(io.BytesIO(data))


def test_of_too_many_images_the_likeliest_errors_are_shown(made, monkeypatch):
  scores, scored = made
  monkeypatch.setattr(run_files, 'MOST_SHOWN', 400)
  found = run_files.tested(scored, [scores], 600, -1.0)
  shown = [one for one in found if 'picture' in one]
  assert (len(shown), len(found)) == (4, 6)
  for one in shown:
    with opened_url(one['picture']) as image:  # Small ones are not enlarged.
      assert image.size == one['size']


def test_the_maps_of_a_page_can_be_read_back():
  """Values are told apart best near the limits, which are low."""
  rng = np.random.default_rng(0)
  heat = rng.gamma(1.0, 4.0, (30, 40)).astype(np.float32) - 2
  frame = Frame.of((30, 40), 30, 20, (20, 20))
  image = Image.new('RGB', (40, 30))
  found = run_files.embed(image, frame, heat[:20, :20], -1.0, None)
  whole = frame.map_to_original(heat[:20, :20])
  with opened_url(found['heat']) as gray:
    levels = np.array(gray).astype(float)
  assert ((levels == 0) == np.isnan(whole)).all()
  span = found['top'] + 1
  values = -1 + span * ((levels - 1) / 254) ** 2
  inside = ~np.isnan(whole)
  wrong = np.abs(values - whole.clip(-1))[inside]
  share = (whole[inside].clip(-1) + 1) / span
  assert (wrong < span * (np.sqrt(share) / 254 + 1e-5)).all()
