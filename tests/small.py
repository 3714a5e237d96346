"""A data set and settings for whole runs that take seconds."""

import numpy as np
from PIL import Image

from simplenet_jax.config import from_protocol
from simplenet_jax.data.dataset import open_categories
from simplenet_jax.training import layout
from simplenet_jax.training.checkpoint import Checkpoints

RNG = np.random.default_rng(0)

# Runs that have these share what is compiled.
SMALL = {
  'data.resize': 32,
  'data.crop': 0,
  'backbone.name': 'resnet18',
  'backbone.batch_size': 4,
  'patch.pretrain_dim': 24,
  'patch.target_dim': 24,
  'head.hidden': 8,
  'train.epochs': 3,
  'train.batch_size': 4,
  'train.pasted': 0,
  'engine.devices': 1,
  'evaluation.pictures': 4,
}


def picture(path, size=(40, 32), spot=False):
  """Writes noise with a gradient, and a dark spot if it is a defect."""
  width, height = size
  pixels = np.linspace(60, 190, width)[None, :, None] + RNG.normal(
    0, 8, (height, width, 3)
  )
  mask = np.zeros((height, width), np.uint8)
  if spot:
    pixels[8:20, 10:24] = 0
    mask[8:20, 10:24] = 255
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
  return Image.fromarray(mask)


def make_category(folder, size=(40, 32), train=5):
  for index in range(train):
    picture(folder / f'train/good/{index}.png', size)
  for index in range(3):
    picture(folder / f'test/good/{index}.png', size)
    mask = picture(folder / f'test/spot/{index}.png', size, spot=True)
    path = folder / f'ground_truth/spot/{index}_mask.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.save(path)


def make_categories(root, sizes):
  """Makes categories of so many training images; returns `root`."""
  for name, count in sizes.items():
    make_category(root / name, train=count)
  return root


def scored(config, workdir):
  """Returns a run's one category and its last patch scores, [seeds, ...]."""
  (one,) = open_categories(config.data).categories
  saved = Checkpoints(workdir / 'checkpoints')
  heads = [saved.load(job)[0] for job in layout.make_jobs(config, [one])]
  return one, np.stack([head.scores[head.job.epochs] for head in heads])


def make_config(root, backbone):
  """Returns the settings `SMALL`, with two seeds."""
  config = from_protocol()
  config.protocol, config.seeds = 'test', (0, 1)
  config.update_from_flattened_dict(SMALL)
  config.data.root, config.backbone.weights = str(root), str(backbone)
  config.data.mask_rule, config.evaluation.every = 'half', 2
  config.engine.tensorboard = False
  return config
