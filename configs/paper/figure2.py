"""Figure 2: speed against image AUROC, of four backbones.

  simplenet sweep --config=paper/figure2

Speed is that of the detectors on this machine's device, one image at a time,
from pixels on the host to map and score on the host.
"""

from simplenet_jax.sweeps import settings


def get_config(base=None):
  """Returns the sweep; `base` is `reference` (default), `paper` or `demo`."""
  return settings.sweep(
    'figure2',
    'Speed and image AUROC (Figure 2)',
    settings.base(base),
    {name: {'backbone.name': name} for name in settings.BACKBONES},
    view='speed',
  )
