"""Table 4: other backbones.

  python -m simplenet_jax.sweep --config=configs/paper/table4.py

Weights come from the hub, or from files: --config.weights.resnet18=FILE. The
noise belongs to torchvision's first weights, whatever the backbone; with others
set --config.base.train.sigma, too.
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'table4',
    'Backbones (Table 4)',
    settings.base(base),
    {name: {'backbone.name': name} for name in settings.BACKBONES},
  )
