import numpy as np
import pytest

from simplenet_jax.data import pasting


def image(seed=0, size=(64, 80)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*size, 3)).astype(np.uint8)


def test_what_changes_lies_in_the_place_that_is_told():
  good = image()
  kept = good.copy()
  for seed in range(40):
    changed, place = pasting.paste(np.random.default_rng(seed), good)
    assert changed.dtype == np.uint8 and changed.shape == good.shape
    assert place.dtype == bool and place.any()
    different = (changed != good).any(-1)
    assert different[place].mean() > 0.5
    # Beyond it lie the soft edges alone, and what is too faint to see.
    assert different[~place].mean() < 0.2
  np.testing.assert_array_equal(good, kept)


def test_defects_depend_on_the_draws_alone():
  once, again, other = (
    pasting.paste(np.random.default_rng(seed), image())[0] for seed in (3, 3, 4)
  )
  np.testing.assert_array_equal(once, again)
  assert (once != other).any()


@pytest.mark.parametrize('fill', pasting._FILLS, ids=lambda x: x.__name__)
def test_every_filling_is_an_image_that_differs(fill):
  good = image().astype(np.float32)
  found = fill(np.random.default_rng(0), good)
  assert found.shape == good.shape and np.isfinite(found).all()
  assert np.abs(found - good).mean() > 1


def test_defects_are_where_there_is_something_to_see():
  good = np.full((96, 96, 3), 128, np.uint8)
  good[32:64, 32:64] = image(size=(32, 32))
  centres = [
    np.argwhere(pasting.paste(np.random.default_rng(seed), good)[1]).mean(0)
    for seed in range(60)
  ]
  inside = np.all(np.abs(np.array(centres) - 48) < 24, axis=1)
  assert inside.mean() > 0.6  # A quarter of the image.


def test_a_plain_image_can_be_tinted_and_gets_texture():
  plain = np.full((48, 48, 3), 90, np.uint8)
  assert pasting.paste(np.random.default_rng(0), plain)[1].any()


def test_where_nothing_can_be_seen_the_place_is_empty(monkeypatch):
  monkeypatch.setattr(pasting, '_FILLS', (lambda rng, image: image + 1,))
  changed, place = pasting.paste(np.random.default_rng(0), image())
  np.testing.assert_array_equal(changed, image())
  assert not place.any()


def test_defects_have_their_centres_in_the_region():
  roi = np.zeros((64, 80), bool)
  roi[:16, 60:] = True
  for seed in range(20):
    rng = np.random.default_rng(seed)
    _, place = pasting.paste(rng, image(), roi)
    assert place[:40, 30:].any()
