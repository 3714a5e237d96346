import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn import metrics as sk_metrics

from simplenet_jax.evaluation import metrics


def _case(seed, images=4, side=12, levels=None):
  """Random maps with blobs that they find in part, and good images."""
  rng = np.random.default_rng(seed)
  maps = rng.standard_normal((images, side, side)).astype(np.float32)
  masks = np.zeros(maps.shape, np.uint8)
  for image in range(1, images):
    for _ in range(rng.integers(1, 4)):
      top, left = rng.integers(0, side - 1, 2)
      height, width = rng.integers(1, side // 2, 2)
      masks[image, top : top + height, left : left + width] = 1
  maps += rng.uniform(-0.5, 2) * masks
  if levels:  # few distinct values: many ties
    maps = np.round(maps * levels / 8).astype(np.float32)
  labels = masks.any((1, 2))
  scores = maps.max((1, 2))
  return labels, scores, masks, maps


cases = st.builds(
  _case,
  st.integers(0, 2**32 - 1),
  images=st.integers(2, 6),
  side=st.integers(4, 16),
  levels=st.sampled_from([None, 2, 8]),
)


def _area(x, y, limit):
  x, y = np.asarray(x), np.asarray(y)
  inside = x <= limit
  y = np.append(y[inside], np.interp(limit, x, y))
  return np.trapezoid(y, np.append(x[inside], limit)) / limit


def _regions(masks):
  for image, mask in enumerate(masks):
    labelled, count = ndimage.label(mask, np.ones((3, 3)))
    for region in range(1, count + 1):
      inside = np.zeros(masks.shape, bool)
      inside[image] = labelled == region
      yield inside


def _slow_aupro(masks, maps, limit):
  """The definition: sweep every distinct value, highest first."""
  regions, x, y = list(_regions(masks)), [0.0], [0.0]
  for threshold in np.unique(maps)[::-1]:
    found = maps >= threshold
    x.append(found[masks == 0].mean())
    y.append(np.mean([found[region].mean() for region in regions]))
  return _area(x, y, limit)


def _sampled_aupro(masks, maps, limit):
  """The same at 100 evenly ranked normal pixels, lowest first."""
  normals = np.sort(maps[masks == 0])
  ranks = np.linspace(0, normals.size - 1, 100, dtype=int)
  regions = [maps[region] for region in _regions(masks)]
  y = [np.mean([(r > normals[at]).mean() for r in regions]) for at in ranks]
  x = 1 - (ranks + 1) / normals.size
  return _area([0, *x[::-1], 1], [0, *y[::-1], 1], limit)


def _f1_max(labels, scores):
  precision, recall, _ = sk_metrics.precision_recall_curve(labels, scores)
  with np.errstate(invalid='ignore'):
    return np.nanmax(2 * precision * recall / (precision + recall))


def test_golden(shared):
  with np.load(shared('golden/metrics.npz')) as golden:
    masks, maps = golden['masks'], golden['anomaly_maps']
    found = metrics.evaluate(golden['labels'], golden['scores'], masks, maps)
    for name in metrics.METRICS:
      if name in ('aupro_30', 'aupro_05'):
        continue
      # What was recorded as AUPRO is sampled.
      recorded = golden[name.removesuffix('_sampled')]
      assert found[name] == pytest.approx(recorded, abs=1e-9), name


@given(cases)
@settings(max_examples=60, deadline=None)
def test_equals_scikit_learn_and_the_definitions(case):
  labels, scores, masks, maps = case
  found = metrics.evaluate(*case)
  for level, truth, values in (
    ('image', labels, scores),
    ('pixel', masks.ravel(), maps.ravel()),
  ):
    for name, expected in (
      ('auroc', sk_metrics.roc_auc_score),
      ('ap', sk_metrics.average_precision_score),
      ('f1_max', _f1_max),
    ):
      value = expected(truth, values)
      assert found[f'{level}_{name}'] == pytest.approx(value, abs=1e-12)
  for limit, name in ((0.3, 'aupro_30'), (0.05, 'aupro_05')):
    expected = _slow_aupro(masks, maps, limit)
    assert found[name] == pytest.approx(expected, abs=1e-12)
    expected = _sampled_aupro(masks, maps, limit)
    assert found[f'{name}_sampled'] == pytest.approx(expected, abs=1e-9)
  # An image is flagged above its threshold, a pixel from its own on.
  _, threshold = metrics.best_f1(labels, scores)
  f1 = sk_metrics.f1_score(labels, scores.astype(np.float64) > threshold)
  assert found['image_f1_max'] == pytest.approx(f1)
  ranked = metrics.rank(masks > 0, maps)
  flagged = maps >= ranked.values[ranked.f1().argmax()]
  f1 = sk_metrics.f1_score(masks.ravel(), flagged.ravel())
  assert found['pixel_f1_max'] == pytest.approx(f1)
  assert np.all(np.diff(ranked.overlap_at(np.linspace(0, 1, 50))) >= 0)
  assert metrics.auroc(labels, scores) == pytest.approx(found['image_auroc'])
  assert metrics.auroc(masks, maps) == pytest.approx(found['pixel_auroc'])
  assert metrics.auroc(masks, -maps) == pytest.approx(1 - found['pixel_auroc'])


@given(cases)
@settings(max_examples=40, deadline=None)
def test_orders_monotone_transforms_and_kinds_of_arrays_change_nothing(case):
  labels, scores, masks, maps = (array[::-1] for array in case)
  rising = np.exp(scores.astype(np.float64)).tolist()
  other = labels.tolist(), rising, masks * 255, np.exp(maps.astype(np.float64))
  assert metrics.evaluate(*other) == pytest.approx(
    metrics.evaluate(*case), abs=1e-12
  )


def test_undefined_is_nan():
  labels, scores, masks, maps = _case(3)
  pixel, image = set(metrics.PIXEL_METRICS), set(metrics.IMAGE_METRICS)
  nothing = np.zeros((0, 4, 4))
  for case, undefined in (
    ((labels, scores, None, maps), pixel),
    ((labels, scores, masks, None), pixel),
    ((labels, scores, masks * 0, maps), pixel),
    ((labels, scores, masks * 0 + 1, maps), pixel),
    ((labels * 0, scores, masks, maps), image),
    ((labels * 0 + 1, scores, masks, maps), image),
    (([], [], nothing, nothing), pixel | image),
  ):
    found = metrics.evaluate(*case)
    assert {name for name in found if np.isnan(found[name])} == undefined
  assert np.isnan(metrics.auroc(labels * 0, scores))
  assert metrics.best_f1(labels * 0, scores)[1] is None


def test_what_is_no_test_set_is_refused():
  labels, scores, masks, maps = _case(5)
  undefined, infinite = scores.copy(), maps.copy()
  undefined[1], infinite[0, 0, 0] = np.nan, np.inf
  for args, message in (
    ((labels, undefined, masks, maps), 'scores: 1 of 4 values'),
    ((labels, scores, masks, infinite), 'maps: 1 of 576 values'),
    ((labels[1:], scores, masks, maps), 'expected'),
    ((labels, scores[:, None], masks, maps), 'expected'),
    ((labels, scores, masks[1:], maps[1:]), 'expected'),
    ((labels, scores, masks[..., None], maps[..., None]), 'expected'),
    ((labels, scores, masks[:, 1:], maps), 'expected'),
    ((labels * 2, scores, masks, maps), r'labels hold \[0, 2\]'),
  ):
    with pytest.raises(ValueError, match=message):
      metrics.evaluate(*args)
  with pytest.raises(ValueError, match='expected equal shapes'):
    metrics.auroc(labels, maps)
