"""What a category leaves for the page: curves, thresholds, small pictures."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import sources
from simplenet_jax.evaluation import evidence, metrics, miniatures
from simplenet_jax.evaluation.judge import Judge
from simplenet_jax.evaluation.results import write_json
from simplenet_jax.report import page, sections
from simplenet_jax.training.job import Job
from simplenet_jax.training.record import Record
from tests.small import make_category, make_config


def test_curves_and_thresholds_agree_with_the_metrics(run):
  _, workdir, results = run
  found = json.loads(evidence.path(workdir, 'gear').read_text())
  for seed, points in enumerate(found['roc']):
    x, y = np.transpose(points)
    auroc = results['categories']['gear']['last']['image_auroc']['seeds'][seed]
    assert np.trapezoid(y, x) == pytest.approx(auroc, abs=1e-3)
  x, y = np.transpose(found['pro'])
  assert x[0] == y[0] == 0 and x[-1] == pytest.approx(0.3)
  scores = np.array([one['score'] for one in found['images']])
  labels = np.array([one['label'] for one in found['images']])
  flagged = scores > found['threshold']
  f1 = 2 * (flagged & (labels == 1)).sum() / (flagged.sum() + labels.sum())
  best = metrics.evaluate(labels, scores, None, None)['image_f1_max']
  assert f1 == pytest.approx(best)


@pytest.mark.parametrize(
  'scores', [[1, 2, 3, 4], [4, 3, 2, 1], [2, 2, 2, 2], [1, 2, 2, 3]]
)
def test_the_threshold_has_the_best_f1(scores):
  labels, scores = np.array([0, 1, 1, 1]), np.array(scores, np.float32)
  threshold = evidence.best_f1(labels, scores)
  flagged = scores > threshold
  f1 = 2 * (flagged & (labels == 1)).sum() / (flagged.sum() + labels.sum())
  best = metrics.evaluate(labels, scores, None, None)['image_f1_max']
  assert f1 == pytest.approx(best)


def test_one_kind_of_images_has_no_threshold():
  assert evidence.best_f1(np.zeros(3, int), np.arange(3.0)) is None


def test_the_scores_are_those_that_were_measured(run):
  _, workdir, results = run
  found = json.loads(evidence.path(workdir, 'gear').read_text())
  labels = [one['label'] for one in found['images']]
  for seed, scores in enumerate(
    np.transpose([one['scores'] for one in found['images']])
  ):
    auroc = results['categories']['gear']['last']['image_auroc']['seeds'][seed]
    assert metrics.auroc(labels, scores) == pytest.approx(auroc)


def test_of_too_many_images_the_likeliest_errors_are_shown():
  labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
  scores = np.array([1, 4, 3, 2, 8, 5, 7, 6.0])
  assert evidence.select(labels, scores, 8).tolist() == list(range(8))
  assert evidence.select(labels, scores, 4).tolist() == [1, 2, 5, 7]
  assert evidence.select(labels[:5], scores[:5], 4).tolist() == [1, 2, 3, 4]
  assert evidence.select(labels[3:], scores[3:], 4).tolist() == [0, 2, 3, 4]
  assert evidence.select(labels * 0, scores, 2).tolist() == [4, 6]
  assert evidence.select(labels, scores, 0).tolist() == [1]


def test_pixel_curves_are_those_of_the_metrics():
  rng = np.random.default_rng(0)
  masks = rng.random((3, 16, 16)) > 0.9
  maps = rng.normal(size=masks.shape) + masks
  curves = metrics.pixel_curves(masks, maps)
  values = metrics.evaluate([1, 1, 0], [1, 1, 0], masks, maps)
  flagged = maps >= curves.best
  f1 = 2 * (flagged & masks).sum() / (flagged.sum() + masks.sum())
  assert f1 == pytest.approx(values['pixel_f1_max'])
  inside = curves.alarms <= 1
  assert np.all(np.diff(curves.overlaps[inside]) >= 0)


@pytest.fixture
def noise(tmp_path):
  """A category of noise with masks of noise, its judge and a head's record."""
  rng = np.random.default_rng(0)
  root = tmp_path / 'noise'
  make_category(root, train=2)
  for path in root.glob('test/*/*.png'):
    pixels = rng.integers(0, 256, (400, 500, 3), np.uint8)
    Image.fromarray(pixels).save(path)
  for path in root.glob('ground_truth/*/*.png'):
    mask = rng.random((40, 50)) > 0.5
    whole = np.kron(mask, np.full((10, 10), 255)).astype(np.uint8)
    Image.fromarray(whole).save(path)
  (inputs,) = sources.open_categories(make_config(tmp_path, '').data).categories
  record = Record(Job('noise', 0, 2, 2, 1))
  record.add_scores(1, rng.normal(size=(6, 4, 4)).astype(np.float32))
  return inputs, Judge.of(inputs, 0.1), [record]


LAYERS = ('picture', 'heat', 'truth', 'found')


def test_noisy_images_keep_a_page_below_25_megabytes(run, noise, tmp_path):
  images = 1725  # Of MVTec AD.
  evidence.write(tmp_path, *noise, images)
  results = run[2]
  names = [f'category {number}' for number in range(15)]
  for part in ('categories', 'selected_on_test'):
    results = {**results, part: dict.fromkeys(names, results[part]['gear'])}
  work = tmp_path / 'work'
  found = json.loads(evidence.path(tmp_path, 'noise').read_text())
  for one in found['images']:
    assert sum(len(one[k]) for k in LAYERS) <= evidence.PAGE_BYTES / images
    size = Image.open(_decoded(one['picture'])).size
    assert max(size) >= 96  # Something can be seen.
  found['images'] = [found['images'][k % 6] for k in range(images // 15)]
  for name in names:
    write_json(evidence.path(work, name), found)
  write_json(work / 'results.json', results)
  assert page.write(work).stat().st_size < 25e6


def _decoded(address):
  return io.BytesIO(base64.b64decode(address.split(',')[1]))


@pytest.mark.parametrize('most', [3_000, 5_000, 24_000])
def test_a_miniature_keeps_to_its_bytes(noise, most):
  inputs, judge, (record,) = noise
  heat = inputs.test[5].map_to_original(judge.maps(record.scores[1][5:])[0])
  for image in (inputs.test_image(5), Image.new('RGB', (1, 400))):
    width, height = image.size
    made = miniatures.make(
      image,
      heat[:height, :width],
      inputs.original_mask(5)[:height, :width],
      (0, 1),
      0.5,
      most,
    )
    assert sum(len(made[k]) for k in LAYERS) <= most
    assert made['truth'].startswith('M') and made['truth'].endswith('z')


@pytest.mark.parametrize(('height', 'width'), [(3, 3), (1, 1), (200, 2)])
def test_no_defect_is_too_small_to_be_outlined(height, width):
  rng = np.random.default_rng(0)
  image, heat = Image.new('RGB', (1500, 1200)), np.zeros((1200, 1500), 'f')
  for top, left in rng.integers(0, 1000, (20, 2)):
    mask = np.zeros(heat.shape, bool)
    mask[top : top + height, left : left + width] = True
    made = miniatures.make(image, heat, mask, (0, 1), None, 24_000)
    assert made['truth'].startswith('M'), (top, left)


def test_of_too_many_images_some_are_shown(noise, tmp_path):
  evidence.write(tmp_path, *noise, images=6_000)
  found = json.loads(evidence.path(tmp_path, 'noise').read_text())
  assert ['picture' in one for one in found['images']].count(True) == 4
  section = sections.section(tmp_path, 'noise')
  assert len(section.images) == 4
  assert any('4 of 6 test images' in note for note in section.notes)
  assert 'of 3 defective' in section.outcome and 'of 3 good' in section.outcome
