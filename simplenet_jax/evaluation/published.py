"""Published SimpleNet figures in percent, with a WideResNet50-2.

Figures 'selected on test' come from the epoch that did best on the test images.
Only figures with the same selection may be subtracted from one another.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from simplenet_jax.data import folder, public

SELECTED_ON_TEST = 'selected on test'
LAST_EPOCH = 'last epoch'
# The tables: `protocols` are ours that one compares with, `decimals` its digits
# after the point, and `rows` its figures by category. The mean is over all of
# the data set; no AUPRO compares with `repo_pro`, which dilates masks by 5 x 5.
TABLES: list[dict[str, Any]] = json.loads(
  Path(__file__).with_suffix('.json').read_text(encoding='utf-8')
)
_FIGURES = ('image_auroc', 'pixel_auroc', 'aupro_30', 'repo_pro')
_FIGURES += ('image_auroc_std',)  # Over seeds.
_CATEGORIES = {'mvtec': folder.MVTEC_AD, 'cifar10': public.CLASSES}


def comparable(
  categories: Iterable[str], backbone: str, protocol: str
) -> list[dict[str, Any]]:
  """Returns the published rows that a run may stand beside.

  A table compares only where its data set has all of the run's categories, and
  its mean, the last row, only where the run has all of the data set's.
  """
  if backbone != 'wide_resnet50_2':
    return []
  names, tables = list(categories), []
  for table in TABLES:
    data_set = set(_CATEGORIES[table['data']])
    if protocol in table['protocols'] and set(names) <= data_set:
      tables.append(table)
  means = ['mean'] if set(names) in map(set, _CATEGORIES.values()) else []
  return [
    {
      'table': table['name'],
      'category': name,
      'selection': table['selection'],
      'percent': dict.fromkeys(_FIGURES) | table['rows'][name],
      'source': table['source'],
    }
    for name in names + means
    for table in tables
    if name in table['rows']
  ]
