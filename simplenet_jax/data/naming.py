"""What the names of folders say of the images in them."""

import dataclasses
import re
import unicodedata
from pathlib import Path, PurePosixPath

GOOD, BAD, MASK = 'good', 'bad', 'mask'
TRAIN, TEST, VALIDATION = 'train', 'test', 'validation'

# As `_key` leaves them.
_ROLES = {
  GOOD: """good goods gut io normal nominal ok okay pass passed healthy flawless
    anomalyfree defectfree noanomaly nodefect nodefects nondefective""",
  BAD: """bad ko ng nio nogood nok notgood notok abnormal anomalies anomalous
    anomaly broken damaged defect defective defects fail failed failure faulty
    flawed reject rejected rejects scrap""",
  MASK: """annot annotation annotations groundtruth gt label labels mask masks
    segmentation segmentations""",
  TRAIN: 'train training',
  TEST: 'test testing tests',
  VALIDATION: 'val valid validation',
}
# What may mean a role, or not.
_HINTS = ('negative', 'negatives', 'positive', 'positives')
_ROLE = {name: role for role, names in _ROLES.items() for name in names.split()}


@dataclasses.dataclass(frozen=True)
class Names:
  """Names of folders that a user has given, each perhaps with those above it.

  Attributes:
    normal: Of good images.
    defects: Of defective images; where there are any, no other folder beside a
      good one holds defects.
    masks: Of masks.
  """

  normal: tuple[str, ...] = ()
  defects: tuple[str, ...] = ()
  masks: tuple[str, ...] = ()

  @classmethod
  def parse(cls, normal: str, defects: str, masks: str) -> 'Names':
    """Reads names separated by commas."""
    return cls(
      *(
        tuple(name.strip().strip('/') for name in given.split(',') if name)
        for given in (normal, defects, masks)
      )
    )

  def role(self, folder: Path) -> str:
    """Returns what a folder holds by its name; '' if the name does not say.

    Args:
      folder: Its path.

    Returns:
      One of `GOOD`, `BAD`, `MASK`, `TRAIN`, `TEST`, `VALIDATION`, or ''.
    """
    for role, names in (
      (GOOD, self.normal),
      (BAD, self.defects),
      (MASK, self.masks),
    ):
      if any(_ends_with(folder, name) for name in names):
        return role
    words = _words(folder.name)
    if len(words) > 1 and words[-1] in ('mask', 'masks'):  # Such as hole_mask.
      return MASK
    return _ROLE.get(_key(folder.name), '')

  def hint(self, folder: Path) -> bool:
    """Returns whether a folder's name has a word in it that names a role."""
    return any(word in _ROLE or word in _HINTS for word in _words(folder.name))

  def unmatched(self, folders: list[Path]) -> list[str]:
    """Returns the names that none of some folders has."""
    return [
      name
      for name in (*self.normal, *self.defects, *self.masks)
      if not any(_ends_with(folder, name) for folder in folders)
    ]


def same(name: str) -> str:
  """Returns what names have in common that differ in case or Unicode form."""
  return unicodedata.normalize('NFC', name).casefold()


def _words(name: str) -> list[str]:
  plain = unicodedata.normalize('NFKC', name).casefold()
  return [word for word in re.split(r'[\s_.-]+', plain) if word]


def _key(name: str) -> str:
  """Returns a name without case, separators and words like 'images'."""
  plain = ''.join(_words(name))
  for word in ('dir', 'folder', 'images', 'image', 'imgs', 'parts', 'samples'):
    if plain != word:
      plain = plain.removesuffix(word)
  return plain


def _ends_with(folder: Path, name: str) -> bool:
  wanted = PurePosixPath(unicodedata.normalize('NFC', name)).parts
  found = tuple(unicodedata.normalize('NFC', part) for part in folder.parts)
  return bool(wanted) and found[-len(wanted) :] == wanted
