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
from simplenet_jax.data.category import Category, Sample
from simplenet_jax.data.folder import Found, leave_out_others
from simplenet_jax.data.tree import GOOD

SPLIT = Path('split_csv', '1cls.csv')
_COLUMNS = ('object', 'split', 'label', 'image', 'mask')
_ANOMALOUS = 'anomaly'


def find(root: Path, names: Sequence[str] = ()) -> Found:
  """Lists the images of every object, or of those named, sorted by name.

  Raises:
    FileNotFoundError: If an image or mask that the split names is not there.
    ValueError: If the split file is not what it should be, or an object is not
      in it.
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
  known = [row[key] for row in rows for key in ('image', 'mask') if row[key]]
  others = [_file(root, name) for name in known]
  leave_out_others(whole, categories, others, left_out)
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
      if (image := PurePosixPath(row['image'])) in seen:
        raise ValueError(
          f'{path}, line {reader.line_num}: {row["image"]} is there twice'
        )
      seen.add(image)
      yield row
  if not seen:
    raise ValueError(f'{path}: no images in it')


def _category(
  root: Path, name: str, rows: Sequence[dict[str, str]]
) -> Category:
  train, test = [], []
  for row in rows:
    path = _file(root, row['image'])
    masks = (_file(root, row['mask']),) if row['mask'] else ()
    if row['split'] == 'train':
      train.append(path)
    elif row['label'] == _ANOMALOUS:
      test.append(Sample(path, _ANOMALOUS, masks))
    else:
      test.append(Sample(path, GOOD))
  if not train:
    raise ValueError(f'{root / SPLIT}: no training images of {name}')
  test.sort(key=lambda sample: (sample.defect, str(sample.path)))
  return Category(name, tuple(sorted(train)), tuple(test))


def _file(root: Path, name: str) -> Path:
  if PurePosixPath(name).is_absolute() or '..' in PurePosixPath(name).parts:
    raise ValueError(f'{root / SPLIT}: names a file outside {root}: {name}')
  if not (root / name).is_file():
    raise FileNotFoundError(
      f'{root / name}: no such file, but {SPLIT} names it; is the data set '
      'whole?'
    )
  return root / name
