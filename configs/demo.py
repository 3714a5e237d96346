"""SimpleNet on generated images, without a download.

  python -m simplenet_jax.main --config=configs/demo.py

Textures and objects with defects are generated under data/demo, and the
backbone is a small one that comes with the package. It shows a run from end to
end; it is not meant for real images.
"""

from simplenet_jax import presets


def get_config():
  """Returns the settings."""
  return presets.demo()
