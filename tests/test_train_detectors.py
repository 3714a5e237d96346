"""Detectors that runs leave: their thresholds, and when they are made again."""

import json

import numpy as np
import pytest

from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.detector import Detector
from simplenet_jax.training import job
from tests.small import make_categories, make_category, make_config
from tests.test_train import run


@pytest.fixture
def config(tmp_path, backbone):
  return make_config(tmp_path / 'data', backbone)


@pytest.fixture(scope='module')
def held_out(tmp_path_factory, backbone):
  """Two categories with images held out; detectors only when it is resumed."""
  top = tmp_path_factory.mktemp('held_out')
  root = make_categories(top / 'data', {'cog': 12, 'part': 12})
  config = make_config(root, backbone)
  config.data.held_out, config.data.held_out_least = 0.1, 3
  config.engine.lanes = 1  # A head is the same in other company.
  config.evaluation.pictures, config.detector.save = 0, False
  first = run(config, top / 'work')
  assert 'part: 9 train, 3 held out, 6 test' in first.told
  assert not (top / 'work/detectors').exists()
  config.detector.save = True
  return run(config, top / 'work')


def test_held_out_images_set_thresholds_that_are_told(held_out):
  assert 'resumes   4 heads finished, 0 under way' in held_out.told
  held = held_out.scored('part')[0].category.validation
  assert len(held) == 3
  detector = held_out.detector('part')
  found = list(detector.predict(held))
  limits = detector.thresholds
  # Three images cannot promise one in a hundred: the highest ones it is.
  assert limits.image == pytest.approx(max(p.score for p in found), abs=1e-6)
  peak = max(p.input_map.max() for p in found)
  assert limits.pixel == pytest.approx(peak, abs=1e-6)
  assert limits.guaranteed_rate == pytest.approx(1 / 4)
  assert not any(p.anomalous for p in found)
  told = f'{limits.pixel:.4g} for pixels, from 3 good images that were not '
  assert told in held_out.told


def test_limits_are_worth_what_the_detector_does(held_out):
  """Counts and pixel figures at its limits are those of its predictions."""
  one, detector = held_out.scored('part')[0], held_out.detector('part')
  found = list(detector.predict([sample.path for sample in one.category.test]))
  stored = held_out.stored['categories']['part']
  at = stored['at_threshold']
  flagged = {0: 0, 1: 0}
  for sample, prediction in zip(one.category.test, found, strict=True):
    flagged[sample.label] += prediction.anomalous
  assert (at['false_alarms'], at['good']) == (flagged[0], 3)
  assert (at['found'], at['defective']) == (flagged[1], 3)
  assert at['kinds'] == {'spot': {'found': flagged[1], 'images': 3}}
  beyond = np.stack([p.input_map > detector.pixel_threshold for p in found])
  truth = np.stack([one.truth(index).reduced for index in range(6)])
  overlap = (beyond & truth).sum() / (beyond | truth).sum()
  assert at['pixel_iou'] == pytest.approx(overlap)
  assert at['pixel_f1'] == pytest.approx(2 * overlap / (1 + overlap))
  assert at['selected_on_test']['pixel_f1'] > at['pixel_f1']
  limits = stored['threshold']
  assert (limits['image'], limits['images']) == (detector.threshold, 3)
  assert limits['bound'] == pytest.approx(detector.thresholds.bound)
  # Who set them: the page shows these, whose maps are not computed again.
  data = json.loads((held_out.work / 'report/part.json').read_text())
  assert [[row['name'], row['score']] for row in data['good']] == (
    limits['scores']
  )
  assert data['good'][0]['score'] == detector.threshold
  assert all('heat' in row for row in data['good'])
  told = (held_out.work / 'results.md').read_text()
  assert f'| part | {at["found"]} of 3 | {at["false_alarms"]} of 3 |' in told
  assert 'part: threshold ' in told


@pytest.mark.parametrize('bank', [0, 24])
def test_heads_that_leave_images_out_set_thresholds(
  bank, tmp_path, config, monkeypatch, caplog
):
  make_category(tmp_path / 'data/part', train=7)
  config.seeds, config.train.folds = (0, 1, 2), True
  config.nearest.size, config.evaluation.pictures = bank, 0
  made, scores = [], Detector.score_good

  def score_good(detector, given, **options):
    made.append((dict(detector.weights), list(given)))
    return scores(detector, given, **options)

  monkeypatch.setattr(Detector, 'score_good', score_good)
  ran = run(config, tmp_path / 'work')
  one, detector = ran.scored('part')[0], ran.detector('part')
  every, limits = one.category.train, detector.thresholds
  parts = job.parts_of('part', 7, 3)
  # Each image is scored by one head: the one that did not train on it.
  assert [given for _, given in made] == [
    [path for path, own in zip(every, parts, strict=True) if own == part]
    for part in range(3)
  ]
  width = detector.weights['head.tail'].size // 3
  for part, (weights, _) in enumerate(made):
    own = slice(part * width, (part + 1) * width)
    np.testing.assert_array_equal(
      weights['head.first.kernel'],
      detector.weights['head.first.kernel'][:, own],
    )
    np.testing.assert_allclose(
      weights['head.tail'], 3 * detector.weights['head.tail'][own], rtol=1e-5
    )
    if bank:  # None of its patches is of an image that is left out.
      kept = {row.tobytes() for row in weights['nearest.bank']}
      whole = {row.tobytes() for row in detector.weights['nearest.bank']}
      assert 0 < len(kept) < len(whole) == bank
      assert kept < whole
  assert (limits.images, limits.folds) == (7, 3)
  assert limits.guaranteed_rate is limits.bound is None
  told = 'from 7 good images, each scored by a head that has not seen it'
  assert told in ran.told
  assert 'about 12.5% of good images to be called NOT OK' in ran.told
  # Calibrated with these, it would flag new ones.
  with pytest.raises(ValueError, match='2 of 2 images are among those that'):
    detector.calibrate(list(every[:2]))
  detector.calibrate([x.path for x in one.category.test if not x.label])
  assert 'are among those' not in caplog.text
  # That stays known when thresholds are others.
  detector.calibrate([*every[:1], one.category.test[0].path])
  assert '1 of 2 images are among those' in caplog.text
  assert detector.thresholds.images == 1


def test_only_missing_detectors_are_made_again(held_out):
  folder = held_out.work / 'detectors'
  cog, part = (folder / f'{name}.safetensors' for name in ('cog', 'part'))
  before = Detector.load(part)
  part.unlink()
  changed = Detector.load(cog)
  changed.thresholds = Thresholds().replace(image=0.25)
  changed.save(cog)
  kept = cog.read_bytes()
  again = run(held_out.config, held_out.work)
  assert cog.read_bytes() == kept
  assert again.detector('part').card == before.card
  for name, value in before.weights.items():
    np.testing.assert_array_equal(again.detector('part').weights[name], value)
  assert '  part: threshold ' in again.told
  assert '  cog: threshold ' not in again.told


def test_files_that_are_missing_are_written_again(held_out):
  gone = held_out.work / 'report/part.json'
  gone.unlink()
  config = held_out.config.copy_and_resolve_references()
  config.evaluation.report = False
  assert ': I-AUROC ' not in run(config, held_out.work).told
  again = run(held_out.config, held_out.work)
  assert gone.exists()
  assert '  part: I-AUROC ' in again.told
  assert '  cog: I-AUROC ' not in again.told
