"""VisA's own split and layout."""

import pytest

from simplenet_jax.data import folder, tree, visa

HEADER = 'object,split,label,image,mask'


def write(root, *rows):
  path = root / visa.SPLIT
  path.parent.mkdir(exist_ok=True)
  path.write_text('\n'.join((HEADER, *rows)) + '\n')
  for row in rows:
    for name in row.split(',')[3:]:
      if name and not name.startswith(('/', '..')):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
  return root


def image(name, kind='Normal'):
  return f'{name[0]}/Data/Images/{kind}/{name[1]}.JPG'


@pytest.fixture
def root(tmp_path):
  mask = 'pcb/Data/Masks/Anomaly/7.png'
  return write(
    tmp_path,
    f'pcb,test,anomaly,{image(("pcb", 7), "Anomaly")},{mask}',
    f'pcb,train,normal,{image(("pcb", 1))},',
    f'pcb,train,normal,{image(("pcb", 0))},',
    f'pcb,test,normal,{image(("pcb", 2))},',
    f'candle,train,normal,{image(("candle", 0))},',
  )


def test_the_split_decides(root):
  (root / 'pcb/Data/Images/Normal/9.JPG').touch()  # Not in the split.
  found = visa.find(root)
  assert found.left_out == {
    root / 'pcb/Data/Images/Normal/9.JPG': folder.OUTSIDE,
    root / visa.SPLIT: tree.NO_IMAGE,
  }
  candle, pcb = found.categories
  assert (candle.name, pcb.name) == ('candle', 'pcb')
  assert [path.name for path in pcb.train] == ['0.JPG', '1.JPG']
  assert [
    (s.defect, s.path.name, [mask.name for mask in s.masks]) for s in pcb.test
  ] == [
    ('anomaly', '7.JPG', ['7.png']),
    ('good', '2.JPG', []),
  ]
  assert [sample.label for sample in pcb.test] == [1, 0]
  assert not candle.test


def test_names_choose(root):
  [pcb] = visa.find(root, ['pcb']).categories
  assert pcb.name == 'pcb'
  with pytest.raises(
    ValueError, match='no object fryum; there are candle, pcb'
  ):
    visa.find(root, ['fryum'])


def test_a_missing_image_is_told(root):
  (root / 'pcb/Data/Images/Normal/1.JPG').unlink()
  with pytest.raises(FileNotFoundError, match=r'1\.JPG: no such file, but spl'):
    visa.find(root)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'\xff\xfe', 'no table in UTF-8'),
    (HEADER.encode() + b'\n' + 200_000 * b'x', 'no table in UTF-8'),
    (HEADER.encode(), 'no images in it'),
    (b'', 'columns are none'),
    (b'object,image\n', 'columns are object, image; expected'),
  ],
)
def test_a_damaged_split_is_told(tmp_path, content, message):
  write(tmp_path)
  (tmp_path / visa.SPLIT).write_bytes(content)
  with pytest.raises(ValueError, match=rf'1cls\.csv: .*{message}'):
    visa.find(tmp_path)


def test_a_byte_order_mark_and_dos_lines_are_understood(root):
  path = root / visa.SPLIT
  text = path.read_text().replace('\n', '\r\n')
  path.write_bytes(b'\xef\xbb\xbf' + text.encode())
  assert [one.name for one in visa.find(root).categories] == ['candle', 'pcb']


TRAINED = 'pcb,train,normal,x.JPG,'
LINE = r'1cls\.csv, line 3: expected'


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    ([TRAINED, 'pcb,validate,normal,a.JPG,'], LINE),
    ([TRAINED, 'pcb,train,odd,a.JPG,'], LINE),
    ([TRAINED, 'pcb,train,anomaly,a.JPG,'], LINE),
    ([TRAINED, 'pcb,train,normal'], LINE),
    ([TRAINED, 'pcb,train,normal,a.JPG,b.png,c'], LINE),
    ([TRAINED, 'pcb,train,normal,,'], LINE),
    ([TRAINED, ',train,normal,a.JPG,'], LINE),
    ([TRAINED, 'pcb,test,normal,x.JPG,'], r'line 3: x\.JPG is there twice'),
    (['pcb,train,normal,/etc/passwd,'], 'names a file outside'),
    (['pcb,train,normal,../secret.png,'], 'names a file outside'),
    (['pcb,test,normal,x.JPG,'], 'no training images of pcb'),
  ],
)
def test_wrong_rows_are_told(tmp_path, rows, message):
  write(tmp_path, *rows)
  with pytest.raises(ValueError, match=message):
    visa.find(tmp_path)
