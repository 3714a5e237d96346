"""Published SimpleNet figures in percent, with a WideResNet50-2.

Figures 'selected on test' come from the epoch that did best on the test images.
Only figures with the same selection may be subtracted from one another.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from simplenet_jax.data.folder import MVTEC_AD
from simplenet_jax.data.public import CLASSES

SELECTED_ON_TEST = 'selected on test'
LAST_EPOCH = 'last epoch'
NOT_STATED = 'selection not stated'
BACKBONE = 'wide_resnet50_2'


class Figures(NamedTuple):
  """One row of a table, in percent; None where a figure was not published."""

  image_auroc: float
  pixel_auroc: float | None = None
  aupro_30: float | None = None
  repo_pro: float | None = None  # With 5x5 dilation; compares with no AUPRO.
  image_auroc_std: float | None = None  # Over seeds.


class Table(NamedTuple):
  """A published table."""

  name: str
  source: str
  selection: str
  protocols: tuple[str, ...]  # Our protocols that it compares with.
  rows: dict[str, Figures]  # By category; 'mean' is over all of the data set.
  data: tuple[str, ...] = MVTEC_AD  # The data set's categories.
  decimals: int = 1  # Digits after the point, as published.


# Image and pixel AUROC of the paper; both and its own PRO of the released code.
_MVTEC_AD = {
  'carpet': (99.7, 98.2, 99.68, 98.02, 89.32),
  'grid': (99.7, 98.8, 99.25, 95.86, 90.73),
  'leather': (100.0, 99.2, 100.0, 99.07, 96.15),
  'tile': (99.8, 97.0, 99.78, 95.45, 88.02),
  'wood': (100.0, 94.5, 100.0, 92.34, 81.90),
  'bottle': (100.0, 98.0, 100.0, 97.99, 91.12),
  'cable': (99.9, 97.6, 99.72, 97.47, 91.95),
  'capsule': (97.7, 98.9, 97.53, 98.91, 92.91),
  'hazelnut': (100.0, 97.9, 99.96, 97.40, 79.36),
  'metal_nut': (100.0, 98.8, 100.0, 98.66, 87.92),
  'pill': (99.0, 98.6, 99.10, 98.49, 94.60),
  'screw': (98.2, 99.3, 98.63, 99.25, 96.13),
  'toothbrush': (99.7, 98.5, 100.0, 98.47, 93.44),
  'transistor': (100.0, 97.6, 100.0, 97.12, 93.61),
  'zipper': (99.9, 98.9, 99.92, 98.63, 94.65),
  'mean': (99.6, 98.1, 99.57, 97.54, 90.79),
}

PAPER = Table(
  name='paper Table 1',
  source='Liu et al., SimpleNet, CVPR 2023, Table 1; the released code selects '
  'the best test epoch per category',
  selection=SELECTED_ON_TEST,
  protocols=('reference', 'paper', 'fast'),
  rows={name: Figures(*row[:2]) for name, row in _MVTEC_AD.items()},
)

RELEASED_CODE = Table(
  name='released code',
  source="A user's rerun of the released PyTorch code, best test epoch: "
  'https://github.com/DonaldRR/SimpleNet/issues/77',
  selection=SELECTED_ON_TEST,
  protocols=('reference', 'fast'),
  rows={
    name: Figures(image, pixel, repo_pro=pro)
    for name, (*_, image, pixel, pro) in _MVTEC_AD.items()
  },
  decimals=2,
)

EFFICIENTAD_AUTHORS = Table(
  name="EfficientAD authors' rerun",
  source='SimpleNet run by the authors of EfficientAD (WACV 2024) with the '
  'selection of the epoch disabled',
  selection=LAST_EPOCH,
  protocols=('reference', 'fast'),
  rows={'mean': Figures(98.2)},
)

SUPERSIMPLENET = Table(
  name='SuperSimpleNet (successor)',
  source='The successor model, last epoch, mean over 5 seeds',
  selection=LAST_EPOCH,
  protocols=('reference', 'fast'),
  rows={'mean': Figures(98.4, 97.5, 91.1, image_auroc_std=0.1)},
)

CIFAR10 = Table(
  name='paper Table 5',
  source='Liu et al., SimpleNet, CVPR 2023, Table 5 (CIFAR-10, one class)',
  selection=NOT_STATED,
  protocols=('paper',),
  rows={'mean': Figures(86.5)},
  data=CLASSES,
)

TABLES = (PAPER, RELEASED_CODE, EFFICIENTAD_AUTHORS, SUPERSIMPLENET, CIFAR10)


def comparable(
  categories: Iterable[str], backbone: str, protocol: str
) -> list[dict[str, Any]]:
  """Returns the published rows that a run may stand beside.

  A table compares only where its data set has all of the run's categories, and
  its mean, the last row, only where the run has all of the data set's.
  """
  names = list(categories)
  return [
    {
      'table': table.name,
      'category': name,
      'selection': table.selection,
      'percent': table.rows[name]._asdict(),
      'source': table.source,
    }
    for name in (*names, 'mean')
    for table in TABLES
    if backbone == BACKBONE
    and protocol in table.protocols
    and set(names) <= set(table.data)
    and name in table.rows
    and (name != 'mean' or set(names) == set(table.data))
  ]
