"""A small run and its page."""

import pytest

from simplenet_jax import train
from tests.small import make_category, make_config, picture

ODD = "<script>alert('x')<"  # No slash: it names a folder.


@pytest.fixture(scope='package')
def run(tmp_path_factory, backbone):
  """A run of three categories, one with an odd name and one without tests.

  Of this one and of `gear`, images are held out for a threshold.
  """
  root = tmp_path_factory.mktemp('data')
  make_category(root / ODD, train=5)
  make_category(root / 'gear', train=6)
  picture(root / 'gear/test/"Öl" & rost/1.png', spot=True)
  for index in range(4):
    picture(root / f'untested/train/good/{index}.png')
    picture(root / f'untested/validation/good/{index}.png')
    picture(root / f'gear/validation/good/{index}.png')
  config = make_config(root, backbone)
  config.name = 'parts'
  workdir = tmp_path_factory.mktemp('work') / 'run'
  return config, workdir, train.train_and_evaluate(config, workdir)
