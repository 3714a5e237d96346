"""Batches on a device, and what happens where memory does not hold them."""

import jax
import numpy as np
import pytest

from simplenet_jax.models import simplenet
from tests.detection import detectors

EXHAUSTED = RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes')
SIZE, COUNT = (32, 40), 13


class Late:
  """Stands for results of which it turns out late that there are none."""

  def copy_to_host_async(self):
    pass

  def __array__(self, *_, **__):
    raise EXHAUSTED


@pytest.fixture(scope='module')
def pixels():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (COUNT, *SIZE, 3), np.uint8)


@pytest.fixture(params=['at once', 'late'])
def small(monkeypatch, request):
  """A device whose memory holds three images; what it was given."""
  run, given = simplenet.run, []

  def on_small(structure, manner, weights, pixels):
    given.append(len(pixels))
    if len(pixels) <= 3:
      return run(structure, manner, weights, pixels)
    if request.param == 'late':
      return Late(), Late()
    raise EXHAUSTED

  monkeypatch.setattr(simplenet, 'run', on_small)
  return given


def make(**options):
  return detectors.as_on_accelerators(
    detectors.make(levels=(1,)), batch_size=8, **options
  )


def test_batches_shrink_where_they_may(pixels, small, caplog):
  expected = detectors.make(levels=(1,)).infer(pixels)
  small.clear()
  found = make(shrink=True).infer(pixels)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)
  # For good: larger ones are not tried again and again.
  assert max(small[-7:]) == 2
  assert small.count(8) + small.count(4) <= 6
  assert 'with 4 images at a time; goes on with 2' in caplog.text


def test_predictions_come_in_order_all_the_same(small):
  images = list(detectors.arrays(COUNT))
  expected = [one.score for one in detectors.make(levels=(1,)).predict(images)]
  found = list(make(shrink=True).predict(images))
  assert [one.source for one in found] == list(range(COUNT))
  assert [one.score for one in found] == pytest.approx(expected, abs=1e-5)


def test_it_is_told_where_they_may_not(pixels, small):
  with pytest.raises(
    MemoryError,
    match=r'with 8 images of .* lower --batch_size, or give --shrink',
  ):
    make().infer(pixels)


def test_one_image_that_does_not_fit_is_told(pixels, monkeypatch):
  monkeypatch.setattr(simplenet, 'run', lambda *_: (Late(), Late()))
  with pytest.raises(MemoryError, match='no memory for an image of 32 x 40'):
    make(shrink=True).infer(pixels)


def test_other_errors_are_not_taken_for_it(pixels, monkeypatch):
  def broken(*_):
    raise RuntimeError('INTERNAL: out of ideas')

  monkeypatch.setattr(simplenet, 'run', broken)
  with pytest.raises(RuntimeError, match='out of ideas'):
    make(shrink=True).infer(pixels)


def test_what_is_under_way_is_waited_for(pixels, monkeypatch):
  """An image fits alone, but not beside a whole batch."""
  run, calls = simplenet.run, []

  def crowded(structure, manner, weights, pixels):
    calls.append(len(pixels))
    if len(pixels) == 1 and calls.count(1) == 1:
      raise EXHAUSTED
    return run(structure, manner, weights, pixels)

  expected = make().infer(pixels[:9])
  monkeypatch.setattr(simplenet, 'run', crowded)
  found = make().infer(pixels[:9])
  assert calls == [8, 1, 1]
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_array_equal(one, other)


def test_weights_that_do_not_fit_are_told(pixels, monkeypatch):
  def full(_):
    raise EXHAUSTED

  detector = make(shrink=True)
  monkeypatch.setattr(jax, 'device_put', full)
  with pytest.raises(MemoryError, match="no memory for the detector's weights"):
    detector.infer(pixels)
