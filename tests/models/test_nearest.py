"""Distances, banks and units against NumPy in float64."""

import numpy as np
import pytest

from simplenet_jax.models import nearest, simplenet
from tests.detection import detectors

RNG = np.random.default_rng(0)
DIM = detectors.DIM


def table(rows, bank):
  """All distances, float64 `[rows, bank]`."""
  rows, bank = (np.asarray(one, np.float64) for one in (rows, bank))
  return np.sqrt(np.square(rows[:, None] - bank).sum(-1))


@pytest.mark.parametrize('offset', [0.0, 300.0])
def test_distances(offset):
  patches = offset + RNG.normal(size=(3, 4, 5, 12)).astype(np.float32)
  bank = offset + RNG.normal(size=(31, 12)).astype(np.float32)
  found = np.asarray(nearest.distances(patches, nearest.prepare(bank)))
  assert (found.shape, found.dtype) == ((3, 4, 5), np.float32)
  expected = table(patches.reshape(-1, 12), bank).min(1).reshape(3, 4, 5)
  # Of values near 300, float32 keeps steps of 3e-5.
  np.testing.assert_allclose(found, expected, rtol=2e-5)
  known = np.asarray(nearest.distances(bank, nearest.prepare(bank)))
  np.testing.assert_allclose(known, 0, atol=2e-2 if offset else 3e-3)


def greedy(patches, size):
  """What `choose` does, as it is described."""
  origin = patches.astype(np.float64)
  around, chosen = np.linalg.norm(origin - origin.mean(0), axis=1), []
  while len(chosen) < size:
    chosen += np.argsort(-around, kind='stable')[:8].tolist()
    around = np.minimum(around, table(patches, patches[chosen]).min(1))
    around[chosen] = -1
  return chosen[:size]


@pytest.mark.parametrize('size', [1, 8, 27, 60])
def test_a_bank_is_the_greedy_one(size):
  patches = RNG.normal(size=(60, 5)).astype(np.float32)
  found = np.asarray(nearest.choose(patches, size)).tolist()
  assert sorted(found) == sorted(greedy(patches, size))
  assert len(set(found)) == size


def test_a_bank_covers_what_is_rare():
  patches = np.concatenate([RNG.normal(size=(500, 4)), [[9, 9, 9, 9]]])
  patches = patches.astype(np.float32)
  bank = patches[np.asarray(nearest.choose(patches, 50))]
  assert table(patches, bank).min(1).max() < 2.5
  assert table(patches, patches[:50]).min(1).max() > 5


def test_alike_patches_are_chosen_once():
  patches = np.ones((30, 4), np.float32)
  assert len(set(np.asarray(nearest.choose(patches, 30)).tolist())) == 30


def test_units_of_distances_are_those_to_other_images():
  bank = RNG.normal(size=(700, 6)).astype(np.float32)
  images = RNG.integers(0, 4, 700)
  between = table(bank, bank)
  between[images[:, None] == images] = np.inf
  least = between.min(1)
  found = nearest.distance_units(bank, images)
  np.testing.assert_allclose(found, (least.mean(), least.std()), rtol=1e-5)
  # Of one image alone, all other patches count.
  alone = nearest.distance_units(bank, np.zeros(700, int))
  assert alone == nearest.distance_units(bank, np.arange(700))
  assert alone[0] < found[0]


@pytest.mark.parametrize(
  ('bank', 'message'),
  [
    (np.repeat(RNG.normal(size=(10, 3)), 2, 0).astype('f'), 'its good ima'),
    (np.ones((20, 3), 'f'), 'its good images do not differ'),
    (np.full((20, 3), np.nan, 'f'), 'features are not finite'),
  ],
)
def test_units_that_are_none_are_refused(bank, message):
  with pytest.raises(ValueError, match=message):
    nearest.distance_units(bank, np.arange(20) % 2)


@pytest.mark.parametrize('adaptor', ['linear', 'mlp'])
def test_folded_weights_score_the_mean_of_combined_scores(adaptor):
  made = [detectors.make_head(seed, adaptor) for seed in range(3)]
  made[2]['params.discriminator.tail.kernel'][:] = 0  # It does not vary.
  bank = RNG.normal(size=(40, DIM)).astype(np.float32)
  patches = RNG.normal(size=(2, 3, 4, DIM)).astype(np.float32)
  units, weight, combined = (1.5, 0.5), 0.3, []
  distance = np.asarray(nearest.distances(patches, nearest.prepare(bank)))
  for one in made:
    folded = nearest.heads.fold([one])
    score = nearest.heads.apply(folded, [patches], [0], 'float32')
    own = nearest.heads.apply(folded, [bank[None, :, None]], [0], 'float32')
    own = np.asarray(own, np.float64)
    known = nearest.head_units(one, bank)
    if own.std():
      np.testing.assert_allclose(known, (own.mean(), own.std()), rtol=1e-6)
      expected = (distance - 1.5) / 0.5
      expected += 0.3 * (np.asarray(score) - own.mean()) / own.std()
    else:
      expected = (distance - 1.5) / 0.5
    combined.append(nearest.combine(distance, units, score, known, weight))
    np.testing.assert_allclose(combined[-1], expected, rtol=1e-5, atol=1e-5)
  weights = nearest.fold(bank, units, made, weight)
  weights |= nearest.prepare(bank)
  network = simplenet.FeatureNetwork(
    detectors.RESNET, (2,), 'zeros', 1, DIM, DIM
  )
  found = simplenet.patch_scores(network, weights, [patches], 'float32')
  np.testing.assert_allclose(found, np.mean(combined, 0), atol=1e-5)
  alone = nearest.fold(bank, units, made, 0.0)
  assert sorted(alone) == ['nearest.bank', 'nearest.units']
  alone |= nearest.prepare(bank)
  found = simplenet.patch_scores(network, alone, [patches], 'float32')
  expected = nearest.combine(distance, units)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('score', ['patch', 'map'])
def test_a_detector_adds_distances_and_its_score_is_the_highest(score):
  pixels = np.stack([one[:32, :40] for one in detectors.arrays(2)])
  made = detectors.make(bank=20, heads=2, score=score)
  assert (made.card.nearest, made.card.heads) == (20, 2)
  maps, scores = made.infer(pixels)
  if score == 'map':
    np.testing.assert_array_equal(scores, maps.max((1, 2)))
  else:
    assert (scores > maps.max((1, 2))).all()
  network = made.card.network
  weights = simplenet.prepare(network, made.weights)
  levels = simplenet.features(network, weights, pixels)
  merged = network.merge(levels)
  distance = nearest.apply(weights, merged)
  head = nearest.heads.apply(
    made.weights, levels, network.level_offsets, 'float32'
  )
  expected = simplenet.anomaly_maps(distance + head, made.size)
  detectors.assert_range(maps, np.asarray(expected), 1e-4)
