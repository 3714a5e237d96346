"""Small charts as SVG; their colours are the page's, light and dark."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 320, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 12, 34
COLOURS = 6  # The page's, of curves.


@dataclasses.dataclass(frozen=True)
class Axis:
  """One axis: its label, both ends and how its ticks are written."""

  label: str
  low: float
  high: float
  form: str = '{:g}'

  def ticks(self) -> list[float]:
    """Returns round numbers between both ends, about four."""
    span = self.high - self.low
    unit = 10 ** np.floor(np.log10(span / 4))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if span / (m * unit) <= 5)
    first = np.ceil(self.low / step - 1e-9)
    return [
      float(f'{k * step:.6g}') + 0.0  # Not -0.
      for k in np.arange(first, np.floor(self.high / step + 1e-9) + 1)
    ]


def lines(
  title: str,
  x: Axis,
  y: Axis,
  curves: Sequence[Sequence[Sequence[float]]],
  names: Sequence[str] = (),
) -> Markup:
  """Draws curves.

  Args:
    title: For those who cannot see it.
    x: The horizontal axis.
    y: The vertical axis.
    curves: Points `(x, y)` of each.
    names: Of the curves; nothing or as many.
  """
  drawn = [
    f'<polyline class="curve c{number % COLOURS}" points="'
    + ' '.join(f'{_x(x, a):.1f},{_y(y, b):.1f}' for a, b in curve)
    + f'"><title>{escape(name)}</title></polyline>'
    for number, (curve, name) in enumerate(
      zip(curves, names or [''] * len(curves), strict=True)
    )
  ]
  return _framed(title, x, y, drawn)


def histogram(
  title: str,
  good: Sequence[float],
  defective: Sequence[float],
  threshold: float | None,
) -> Markup:
  """Draws how scores are distributed, and the threshold.

  Args:
    title: For those who cannot see it.
    good: Scores of good images.
    defective: Scores of defective images.
    threshold: Where the line is, if there is one.
  """
  everything = [*good, *defective, *([] if threshold is None else [threshold])]
  low, high = min(everything), max(everything)
  margin = 0.03 * (high - low) or 1.0
  edges = np.linspace(low - margin, high + margin, 25)
  counts = [np.histogram(part, edges)[0] for part in (good, defective)]
  x = Axis('image score', float(edges[0]), float(edges[-1]))
  y = Axis('images', 0, max(1.0, float(np.max(counts))))
  drawn = []
  for name, part in zip(('good', 'bad'), counts, strict=True):
    for start, end, count in zip(edges, edges[1:], part, strict=False):
      if count:
        left, top = _x(x, start), _y(y, count)
        drawn.append(
          f'<rect class="{name}" x="{left:.1f}" y="{top:.1f}" '
          f'width="{_x(x, end) - left - 0.6:.1f}" '
          f'height="{_y(y, 0) - top:.1f}"/>'
        )
  if threshold is not None:
    place = _x(x, threshold)
    drawn.append(
      f'<line class="threshold" x1="{place:.1f}" x2="{place:.1f}" '
      f'y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
    )
  return _framed(title, x, y, drawn)


def _x(axis: Axis, value: float) -> float:
  share = (value - axis.low) / (axis.high - axis.low)
  return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
  share = (value - axis.low) / (axis.high - axis.low)
  return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _framed(title: str, x: Axis, y: Axis, drawn: Sequence[str]) -> Markup:
  right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
  parts = [
    f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-label="{escape(title)}">'
  ]
  for tick in y.ticks():
    at = _y(y, tick)
    parts.append(
      f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" '
      f'y2="{at:.1f}"/><text x="{_LEFT - 5}" y="{at + 3.5:.1f}" '
      f'text-anchor="end">{y.form.format(tick)}</text>'
    )
  for tick in x.ticks():
    parts.append(
      f'<text x="{_x(x, tick):.1f}" y="{bottom + 14}" '
      f'text-anchor="middle">{x.form.format(tick)}</text>'
    )
  parts += drawn
  parts.append(
    f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" '
    f'y2="{bottom}"/>'
    f'<text class="label" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}" '
    f'text-anchor="middle">{escape(x.label)}</text>'
    f'<text class="label" transform="rotate(-90)" x="{-(_TOP + bottom) / 2}" '
    f'y="11" text-anchor="middle">{escape(y.label)}</text></svg>'
  )
  return Markup(''.join(parts))  # noqa: S704 - escaped above.
