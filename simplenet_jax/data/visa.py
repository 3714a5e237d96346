"""VisA as it is distributed: its images, and the file that splits them.

```
<root>/split_csv/1cls.csv      object, split, label, image, mask
<root>/<object>/Data/Images/{Normal,Anomaly}/*.JPG
<root>/<object>/Data/Masks/Anomaly/*.png
```

The split is the data set's own, for training on normal images only (Zou et al.,
SPot-the-Difference, ECCV 2022).
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from simplenet_jax.data import tree
from simplenet_jax.data.folder import (
  GOOD,
  NOT_CHOSEN,
  OUTSIDE,
  Category,
  Found,
  Sample,
  files,
)

SPLIT = Path('split_csv', '1cls.csv')
_COLUMNS = ('object', 'split', 'label', 'image', 'mask')
_ANOMALOUS = 'anomaly'


def find(root: Path, names: Sequence[str] = ()) -> Found:
  """Lists the images of every object, sorted by name.

  Args:
    root: the folder that holds `SPLIT`.
    names: the objects wanted; empty for all.

  Returns:
    The categories, each with at least one training image, and other files.

  Raises:
    FileNotFoundError: an image or mask that the split names is not there.
    ValueError: the split file is not what it should be, or an object is not in
      it.
  """
  try:
    rows = list(_rows(root))
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(
      f'{root / SPLIT}: no table in UTF-8 ({error}); get it anew'
    ) from error
  found = sorted({row['object'] for row in rows})
  if missing := sorted(set(names) - set(found)):
    raise ValueError(
      f'{root / SPLIT}: no object {", ".join(missing)}; there are '
      f'{", ".join(found)}'
    )
  categories = tuple(
    _category(root, name, [row for row in rows if row['object'] == name])
    for name in sorted(set(names)) or found
  )
  whole, left_out = tree.read(root)
  used = {file for one in categories for file in files(one)}
  others = {_file(root, row['image']) for row in rows} - used
  others |= {_file(root, row['mask']) for row in rows if row['mask']} - used
  for image in whole.all_images():
    if image not in used:
      left_out[image] = NOT_CHOSEN if image in others else OUTSIDE
  return Found(categories, left_out)


def _rows(root: Path) -> Iterator[dict[str, str]]:
  path, seen = root / SPLIT, set()
  with path.open(newline='', encoding='utf-8-sig') as file:
    reader = csv.DictReader(file)
    if tuple(reader.fieldnames or ()) != _COLUMNS:
      raise ValueError(
        f'{path}: its columns are {", ".join(reader.fieldnames or ["none"])}; '
        f'expected {", ".join(_COLUMNS)}'
      )
    for row in reader:
      if (
        None in (*row, *row.values())  # Too many, or too few.
        or not row['object']
        or not row['image']
        or row['split'] not in ('train', 'test')
        or row['label'] not in ('normal', _ANOMALOUS)
        or (row['split'], row['label']) == ('train', _ANOMALOUS)
      ):
        raise ValueError(
          f'{path}, line {reader.line_num}: expected an object, train or test, '
          'normal or anomaly (none of these to train on), an image and a mask'
        )
      if row['image'] in seen:
        raise ValueError(
          f'{path}, line {reader.line_num}: {row["image"]} is there twice'
        )
      seen.add(row['image'])
      yield row
  if not seen:
    raise ValueError(f'{path}: no images in it')


def _category(
  root: Path, name: str, rows: Sequence[dict[str, str]]
) -> Category:
  train = [_file(root, r['image']) for r in rows if r['split'] == 'train']
  if not train:
    raise ValueError(f'{root / SPLIT}: no training images of {name}')
  test = [_sample(root, row) for row in rows if row['split'] == 'test']
  test.sort(key=lambda sample: (sample.defect, str(sample.path)))
  return Category(name, tuple(sorted(train)), tuple(test))


def _sample(root: Path, row: dict[str, str]) -> Sample:
  path = _file(root, row['image'])
  if row['label'] != _ANOMALOUS:
    return Sample(path, GOOD)
  masks = (_file(root, row['mask']),) if row['mask'] else ()
  return Sample(path, _ANOMALOUS, masks)


def _file(root: Path, name: str) -> Path:
  if PurePosixPath(name).is_absolute() or '..' in PurePosixPath(name).parts:
    raise ValueError(f'{root / SPLIT}: names a file outside {root}: {name}')
  if not (root / name).is_file():
    raise FileNotFoundError(
      f'{root / name}: no such file, but {SPLIT} names it; is the data set '
      'whole?'
    )
  return root / name
