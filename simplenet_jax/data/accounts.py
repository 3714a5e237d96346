"""What every file that was given is used as, or why it is left out."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from absl import logging

from simplenet_jax.data import folder, tree
from simplenet_jax.data.record import Category, File, place

UNREADABLE = 'an image that cannot be read'
# What nobody would miss, or is told one by one.
_EXPECTED = (tree.HIDDEN, tree.NO_IMAGE, folder.NOT_CHOSEN, UNREADABLE)
_ORDER = (
  'train',
  'held out',
  'validation',
  'good test',
  'defective test',
  'mask',
)
_KINDS = 8  # Kinds of defects that a terminal shows, at most.


@dataclasses.dataclass(frozen=True)
class Row:
  """Files with something in common.

  Attributes:
    use: What they are used as, or why they are left out.
    count: How many.
    example: One of them, by its place below the root or in its data set.
    left_out: Whether they are left out.
  """

  use: str
  count: int
  example: str
  left_out: bool


def of_run(
  categories: Iterable[Category], drawn: Sequence[str]
) -> dict[File, str]:
  """Returns what a run uses each image and mask as.

  Args:
    categories: The images, those for thresholds already held out.
    drawn: Categories whose held-out images were drawn from those to train on.
  """
  uses: dict[File, str] = {}
  for one in categories:
    held = 'held out' if one.name in drawn else 'validation'
    uses |= dict.fromkeys(one.train, 'train')
    uses |= dict.fromkeys(one.validation, held)
    for sample in one.test:
      bad = f'defective test: {sample.defect}'
      uses[sample.path] = bad if sample.label else 'good test'
      uses |= dict.fromkeys(sample.masks, 'mask')
  return uses


def rows(
  uses: Mapping[File, str], left_out: Mapping[Path, str], root: Path
) -> tuple[Row, ...]:
  """Counts files by use.

  Args:
    uses: Of those that are used.
    left_out: Why which others are not.
    root: The folder that they are below.

  Returns:
    A row for each use in its order, then one for each reason.
  """
  found = collections.defaultdict(list)
  for file, use in uses.items():
    found[use, False].append(_below(file, root))
  found = dict(sorted(found.items(), key=lambda item: _rank(item[0][0])))
  for path, reason in sorted(left_out.items()):
    found.setdefault((reason, True), []).append(_below(path, root))
  return tuple(
    Row(use, len(files), files[0], out) for (use, out), files in found.items()
  )


def tell(given: Sequence[Row]) -> str:
  """Returns rows as lines for a terminal."""
  kinds = [row for row in given if row.use.startswith('defective test: ')]
  shown = list(given)
  if len(kinds) > _KINDS:
    count = sum(row.count for row in kinds)
    one = Row(
      f'defective test: {len(kinds)} kinds', count, kinds[0].example, False
    )
    shown.insert(shown.index(kinds[0]), one)
    shown = [row for row in shown if row not in kinds]
  return '\n'.join(
    f'  {row.count:7,}  {"left out: " if row.left_out else ""}{row.use}, such '
    f'as {row.example}'
    for row in shown
  )


def warn(left_out: Mapping[Path, str], root: Path) -> None:
  """Warns of images that are not used, a line for each reason.

  Args:
    left_out: Why which files are not used.
    root: The folder that they are below.
  """
  by_reason = collections.defaultdict(list)
  for path, reason in sorted(left_out.items()):
    if reason not in _EXPECTED or (
      reason == tree.HIDDEN and tree.may_be_image(path)
    ):
      by_reason[reason].append(_below(path, root))
  for reason, paths in by_reason.items():
    folders = list(dict.fromkeys(path.rpartition('/')[0] for path in paths))
    more = f' and {len(folders) - 8} more' if len(folders) > 8 else ''
    logging.warning(
      '%s: left out: %s: %d in %s%s, such as %s',
      root,
      reason,
      len(paths),
      ', '.join(one or '.' for one in folders[:8]),
      more,
      paths[0],
    )


def _rank(use: str) -> tuple[int, str]:
  part = use.partition(':')[0]
  return _ORDER.index(part) if part in _ORDER else len(_ORDER), use


def _below(file: File, root: Path) -> str:
  """Returns where a file lies below the root, or in its data set."""
  if isinstance(file, Path) and file.is_relative_to(root):
    return file.relative_to(root).as_posix()
  return str(place(file))
