"""What limits are worth on test images: detectors', and the best on test."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from simplenet_jax.evaluation.published import SELECTED_ON_TEST

UNDEFINED = '–'  # noqa: RUF001


class Column(NamedTuple):
  """One figure by category, as text, and where it comes from."""

  source: str
  selection: str
  title: str
  cells: list[str]


_FIGURES = {
  'found': '{found} of {defective}',
  'false alarms': '{false_alarms} of {good}',
  'limit': '{image:#.3g}',
  'P-F1': '{pixel_f1:.2%}',
  'P-IoU': '{pixel_iou:.2%}',
}


def columns(results: Mapping[str, Any]) -> list[Column]:
  """Returns figures at the detectors' limits and at those chosen on test."""
  found, own, chosen = [], [], []
  for one in results['categories'].values():
    own.append(one.get('at_threshold', one.get('threshold', {})))
    chosen.append(own[-1].get('selected_on_test', {}))
  for selection, rows in (('of detector', own), (SELECTED_ON_TEST, chosen)):
    for title, form in _FIGURES.items():
      cells = [_cell(form, row) for row in rows]
      if set(cells) != {UNDEFINED}:
        found.append(Column('limits', selection, title, cells))
  return found


def _cell(form: str, row: Mapping[str, Any]) -> str:
  try:
    told = form.format(**row).rstrip('.%')
  except (KeyError, TypeError):  # It has no limit, or no truth.
    return UNDEFINED
  return UNDEFINED if told.endswith(' of 0') else told
