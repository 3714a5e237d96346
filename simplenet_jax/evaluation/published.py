"""Published SimpleNet figures, each with how it was selected.

All of them are percentages and use a WideResNet50-2. Figures 'selected on test'
come from the epoch that did best on the test images; only figures with the same
selection may be subtracted from one another, and none of which it is not known.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from simplenet_jax.data.cifar10 import CLASSES
from simplenet_jax.data.folder import MVTEC_AD

Selection = Literal['selected on test', 'last epoch', 'selection not stated']

SELECTED_ON_TEST: Selection = 'selected on test'
LAST_EPOCH: Selection = 'last epoch'
NOT_STATED: Selection = 'selection not stated'
BACKBONE = 'wide_resnet50_2'


@dataclasses.dataclass(frozen=True)
class Figures:
  """One row of a table, in percent.

  Attributes:
    image_auroc: Image AUROC.
    pixel_auroc: Pixel AUROC, None where not published.
    aupro_30: AUPRO to a false positive rate of .3, None where not published.
    repo_pro: The released code's own PRO (5x5 dilation), which is no AUPRO and
      compares with none.
    image_auroc_std: Standard deviation of the image AUROC over seeds.
  """

  image_auroc: float
  pixel_auroc: float | None = None
  aupro_30: float | None = None
  repo_pro: float | None = None
  image_auroc_std: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
  """A published table.

  Attributes:
    name: What it is called beside our own figures.
    source: Where it comes from.
    selection: How the epoch was selected.
    protocols: Our protocols that it compares with.
    decimals: Digits after the point, as published.
    rows: Figures by category; 'mean' is over all of the data set.
    data: The data set's categories.
  """

  name: str
  source: str
  selection: Selection
  protocols: tuple[str, ...]
  decimals: int
  rows: dict[str, Figures]
  data: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Row:
  """One category's figures with the table that they stand in."""

  table: Table
  category: str
  figures: Figures


PAPER = Table(
  name='paper Table 1',
  source='Liu et al., SimpleNet, CVPR 2023, Table 1; the released code selects '
  'the best test epoch per category',
  selection=SELECTED_ON_TEST,
  protocols=('reference', 'paper', 'fast'),
  decimals=1,
  rows={
    'carpet': Figures(99.7, 98.2),
    'grid': Figures(99.7, 98.8),
    'leather': Figures(100.0, 99.2),
    'tile': Figures(99.8, 97.0),
    'wood': Figures(100.0, 94.5),
    'bottle': Figures(100.0, 98.0),
    'cable': Figures(99.9, 97.6),
    'capsule': Figures(97.7, 98.9),
    'hazelnut': Figures(100.0, 97.9),
    'metal_nut': Figures(100.0, 98.8),
    'pill': Figures(99.0, 98.6),
    'screw': Figures(98.2, 99.3),
    'toothbrush': Figures(99.7, 98.5),
    'transistor': Figures(100.0, 97.6),
    'zipper': Figures(99.9, 98.9),
    'mean_texture': Figures(99.8, 97.5),
    'mean_object': Figures(99.5, 98.4),
    'mean': Figures(99.6, 98.1),
  },
  data=MVTEC_AD,
)

RELEASED_CODE = Table(
  name='released code',
  source="A user's rerun of the released PyTorch code, best test epoch: "
  'https://github.com/DonaldRR/SimpleNet/issues/77',
  selection=SELECTED_ON_TEST,
  protocols=('reference', 'fast'),
  decimals=2,
  rows={
    'carpet': Figures(99.68, 98.02, repo_pro=89.32),
    'grid': Figures(99.25, 95.86, repo_pro=90.73),
    'leather': Figures(100.0, 99.07, repo_pro=96.15),
    'tile': Figures(99.78, 95.45, repo_pro=88.02),
    'wood': Figures(100.0, 92.34, repo_pro=81.90),
    'bottle': Figures(100.0, 97.99, repo_pro=91.12),
    'cable': Figures(99.72, 97.47, repo_pro=91.95),
    'capsule': Figures(97.53, 98.91, repo_pro=92.91),
    'hazelnut': Figures(99.96, 97.40, repo_pro=79.36),
    'metal_nut': Figures(100.0, 98.66, repo_pro=87.92),
    'pill': Figures(99.10, 98.49, repo_pro=94.60),
    'screw': Figures(98.63, 99.25, repo_pro=96.13),
    'toothbrush': Figures(100.0, 98.47, repo_pro=93.44),
    'transistor': Figures(100.0, 97.12, repo_pro=93.61),
    'zipper': Figures(99.92, 98.63, repo_pro=94.65),
    'mean': Figures(99.57, 97.54, repo_pro=90.79),
  },
  data=MVTEC_AD,
)

EFFICIENTAD_AUTHORS = Table(
  name="EfficientAD authors' rerun",
  source='SimpleNet run by the authors of EfficientAD (WACV 2024) with the '
  'selection of the epoch disabled',
  selection=LAST_EPOCH,
  protocols=('reference', 'fast'),
  decimals=1,
  rows={'mean': Figures(98.2)},
  data=MVTEC_AD,
)

SUPERSIMPLENET = Table(
  name='SuperSimpleNet (successor)',
  source='The successor model, last epoch, mean over 5 seeds',
  selection=LAST_EPOCH,
  protocols=('reference', 'fast'),
  decimals=1,
  rows={'mean': Figures(98.4, 97.5, 91.1, image_auroc_std=0.1)},
  data=MVTEC_AD,
)

PAPER_CIFAR10 = Table(
  name='paper Table 5',
  source='Liu et al., SimpleNet, CVPR 2023, Table 5 (CIFAR-10, one class)',
  selection=NOT_STATED,
  protocols=('paper',),
  decimals=1,
  rows={'mean': Figures(86.5)},
  data=CLASSES,
)

TABLES = (
  PAPER,
  RELEASED_CODE,
  EFFICIENTAD_AUTHORS,
  SUPERSIMPLENET,
  PAPER_CIFAR10,
)


def comparable(
  categories: Iterable[str], backbone: str, protocol: str
) -> tuple[Row, ...]:
  """Returns the published rows that a run may stand beside.

  Args:
    categories: The run's categories: a table compares only where all are of its
      data set, and its mean only where they are all of it.
    backbone: The run's backbone; nothing compares but `BACKBONE`.
    protocol: One of `config.PROTOCOLS`, or another name, with which no
      table compares.

  Returns:
    Rows in the order of the categories, the mean last.
  """
  names = list(categories)
  tables = [
    table
    for table in TABLES
    if backbone == BACKBONE
    and protocol in table.protocols
    and set(names) <= set(table.data)
  ]
  return tuple(
    Row(table, name, table.rows[name])
    for name in (*names, 'mean')
    for table in tables
    if name in table.rows and (name != 'mean' or set(names) == set(table.data))
  )
