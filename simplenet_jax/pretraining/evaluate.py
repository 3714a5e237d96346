"""Measures a backbone on recipes that it was not trained on.

  python -m simplenet_jax.pretraining.evaluate --output=FILE.json

For each recipe, a patch's score is its distance to the nearest patch of
undisturbed images: no training, so the figures tell of the features alone.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
from absl import app, flags

from simplenet_jax import files
from simplenet_jax.evaluation import metrics
from simplenet_jax.models import patches, resnet, simplenet, weights
from simplenet_jax.pretraining import learner, pool

_ARCHITECTURE = 'demo_resnet'
_FIRST = 1_000_000  # Recipes from this number on are never trained on.
_PATCHES = 4000  # Patches kept of a recipe's undisturbed images.

_WEIGHTS = flags.DEFINE_string(
  'weights', 'demo', 'A file of weights; "demo": the one in the package.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'The JSON file to write.')
_RECIPES = flags.DEFINE_integer('recipes', 24, 'How many recipes.')
_PAIRS = flags.DEFINE_integer('pairs', 32, 'Pairs of images of each recipe.')


def patch_features(state: Any, images: np.ndarray) -> np.ndarray:
  """Computes what SimpleNet's heads would see.

  Args:
    state: The backbone's state.
    images: `[batch, size, size, 3]`, uint8.

  Returns:
    `[batch, h, w, dimensions]`, float32; the dimensions of both levels.
  """
  starts = range(0, len(images), 16)
  return np.concatenate([_embed(state, images[i : i + 16]) for i in starts])


@jax.jit
def _embed(state: Any, images: jax.Array) -> jax.Array:
  dims = resnet.ARCHITECTURES[_ARCHITECTURE].channels(max(learner.LEVELS))
  network = simplenet.FeatureNetwork(
    _ARCHITECTURE, learner.LEVELS, 'zeros', 3, dims, 2 * dims
  )
  levels = simplenet.features(network, state, images)
  return jax.vmap(
    lambda *one: patches.merge(one, network.level_offsets, network.target_dim)
  )(*levels)


def nearest(train: np.ndarray, test: np.ndarray) -> np.ndarray:
  """Returns every test patch's distance to the nearest training patch.

  Args:
    train: `[n, dimensions]`.
    test: `[..., dimensions]`.

  Returns:
    Distances `[...]`, float32.
  """
  flat = test.reshape(-1, test.shape[-1])
  squares = (train * train).sum(1)
  result = []
  for start in range(0, len(flat), 4096):
    part = flat[start : start + 4096]
    found = (squares - 2 * part @ train.T).min(1) + (part * part).sum(1)
    result.append(np.sqrt(np.maximum(found, 0)))
  return np.concatenate(result).reshape(test.shape[:-1])


def judge_recipe(state: Any, seed: int, index: int, pairs: int) -> dict:
  """Measures one recipe.

  Args:
    state: The backbone's state.
    seed: Seed of the recipe and its images.
    index: The recipe's number.
    pairs: How many pairs; undisturbed images of half of them are learned from.

  Returns:
    AUROC of images and of the blocks of the map of kinds, and the features'
    mean standard deviation per dimension.
  """
  images, kinds = pool.render_class(seed, index, pairs)
  train = patch_features(state, images[: pairs // 2, 0])
  test_images = (
    images[pairs // 2 :].swapaxes(0, 1).reshape(-1, *images.shape[2:])
  )
  test = patch_features(state, test_images)
  rng = np.random.default_rng([seed, 5, index])
  flat = train.reshape(-1, train.shape[-1])
  kept = flat[rng.permutation(len(flat))[:_PATCHES]]
  scores = nearest(kept, test)
  odd = kinds[pairs // 2 :] > 0
  odd = np.concatenate([np.zeros_like(odd), odd])
  side = odd.shape[1] // scores.shape[1]
  odd = odd.reshape(len(odd), scores.shape[1], side, -1, side).max((2, 4))
  return {
    'recipe': index,
    'image_auroc': metrics.auroc(odd.any((1, 2)), scores.max((1, 2))),
    'place_auroc': metrics.auroc(odd, scores),
    'feature_std': float(flat.std(0).mean()),
  }


def judge(path: pathlib.Path, state: Any, recipes: int, pairs: int) -> dict:
  """Measures a backbone on fresh recipes.

  Args:
    path: The file of its weights, for the notes in its header.
    state: The backbone's state.
    recipes: How many recipes.
    pairs: How many pairs of images of each.

  Returns:
    Means, lowest values, and each recipe's figures.
  """
  with safetensors.safe_open(path, 'np') as file:
    made = file.metadata() or {}
  each = [
    judge_recipe(state, 0, _FIRST + pool.FAMILY * k, pairs)
    for k in range(recipes)
  ]
  result: dict[str, Any] = {
    'training': made,
    'held_out': {
      'recipes': recipes,
      'pairs': pairs,
    },
  }
  for name in ('image_auroc', 'place_auroc', 'feature_std'):
    values = [one[name] for one in each]
    result['held_out'][name] = {
      'mean': round(float(np.mean(values)), 4),
      'lowest': round(float(np.min(values)), 4),
    }
  return result | {'recipes': each}


def main(argv: list[str]) -> None:
  """Measures the backbone that the flags name, and writes the figures."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  loaded = weights.load(_WEIGHTS.value, _ARCHITECTURE, learner.LEVELS)
  result = judge(loaded.path, loaded.state, _RECIPES.value, _PAIRS.value)
  result = {'sha256': loaded.sha256, **result}
  with files.atomic_write(str(_OUTPUT.value)) as aside:
    aside.write_text(json.dumps(result, indent=2) + '\n')
  print(json.dumps(result['held_out'], indent=2))


if __name__ == '__main__':
  flags.mark_flag_as_required('output')
  app.run(main)
