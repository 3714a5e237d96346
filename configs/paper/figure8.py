"""Figure 8: test images with their defects outlined as found.

  simplenet sweep --config=paper/figure8

Outlined is what scores above the threshold with the best pixel F1 on the test
images, which flatters; the pictures say so.
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'figure8',
    'Test images, truth and what is found (Figure 8)',
    settings.base(base),
    {'SimpleNet': {}},
    view='pictures',
  )
