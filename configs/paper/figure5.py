"""Figure 5: the noise's scale, per category.

  simplenet sweep --config=paper/figure5

One extraction of features serves all scales and seeds.
"""

from simplenet_jax.sweeps import settings

# Of the protocol's sigma, .015 for torchvision's first weights. Other weights
# want a config of their own: --config.base.train.sigma is refused here.
FACTORS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  chosen = settings.base(base)
  return settings.sweep(
    'figure5',
    'Scale of the noise (Figure 5)',
    chosen,
    {
      f'{factor * chosen.train.sigma:.5g}': {
        'train.sigma': float(f'{factor * chosen.train.sigma:.5g}')
      }
      for factor in FACTORS
    },
    view='line',
    axis='train.sigma',
  )
