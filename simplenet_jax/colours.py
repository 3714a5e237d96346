"""Which colour a score has in every view of a detector."""

import functools
from typing import NamedTuple

import numpy as np

# ColorBrewer's RdYlBu, from blue to red, without dark red, which is hard to see
# on black.
_HUES = '313695 4575b4 74add1 abd9e9 e0f3f8 ffffbf fee090 fdae61 f46d43 d73027'


class Scale(NamedTuple):
  """Which colour a score has; the same in every view of a detector."""

  low: float  # A usual score, which is transparent.
  high: float  # Red from here on.
  limit: float | None = None  # Of pixels; half way between them.

  @classmethod
  def of(cls, usual: float, hot: float, limit: float | None) -> 'Scale':
    """Ties colours to the limit of pixels or, without one, to a `hot` score."""
    if limit is None:
      return cls(usual, hot)
    # A limit that is set by hand may lie anywhere.
    span = limit - usual if limit > usual else (hot - usual) / 2 or 1.0
    return cls(limit - span, limit + span, limit)

  def colours(self, heat: np.ndarray) -> np.ndarray:
    """Returns colour and opacity of scores, uint8 `[..., 4]`; NaN is clear."""
    level = (heat - self.low) * (255 / max(self.high - self.low, 1e-12))
    level = np.nan_to_num(level, copy=False).clip(0, 255).astype(np.uint8)
    return _table()[level].view(np.uint8)


@functools.cache
def _table() -> np.ndarray:
  """Returns colour and opacity of 256 levels, uint8 as uint32 `[256, 1]`."""
  levels = np.linspace(0, 1, 256)
  hues = np.interp(levels, (0, 0.5, 1), (0, 5, 9))
  known = np.array([[*bytes.fromhex(one)] for one in _HUES.split()])
  table = [np.interp(hues, range(len(known)), one) for one in known.T]
  table.append(np.interp(levels, (0.23, 0.5, 1), (0, 130, 190)))
  return np.stack(table, -1).astype(np.uint8).view(np.uint32)
