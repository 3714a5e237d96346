"""VisA's own split, and CIFAR-10's binary files as ten one-class problems."""

import numpy as np
import pytest

from simplenet_jax import train
from simplenet_jax.data import folder, images, public, tree
from tests import small
from tests.data import cifar
from tests.data.test_files import touch

HEADER = 'object,split,label,image,mask'


def write(root, *rows):
  names = [name for row in rows for name in row.split(',')[3:]]
  touch(root, public.SPLIT, *(n for n in names if n and n[0] not in '/.'))
  (root / public.SPLIT).write_text('\n'.join((HEADER, *rows)) + '\n')
  return root


@pytest.fixture
def root(tmp_path):
  return write(
    tmp_path,
    'pcb,test,anomaly,pcb/Data/Images/Anomaly/7.JPG,pcb/Data/Masks/7.png',
    'pcb,train,normal,pcb/Data/Images/Normal/1.JPG,',
    'pcb,train,normal,pcb/Data/Images/Normal/0.JPG,',
    'pcb,test,normal,pcb/Data/Images/Normal/2.JPG,',
    'candle,train,normal,candle/Data/Images/Normal/0.JPG,',
  )


def test_visas_split_decides(root):
  (root / 'pcb/Data/Images/Normal/9.JPG').touch()  # Not in the split.
  path = root / public.SPLIT  # With a byte order mark and DOS lines.
  text = path.read_text().replace('\n', '\r\n')
  path.write_bytes(b'\xef\xbb\xbf' + text.encode())
  found = public.find_visa(root)
  assert found.left_out == {
    root / 'pcb/Data/Images/Normal/9.JPG': folder.OUTSIDE,
    path: tree.NO_IMAGE,
  }
  candle, pcb = found.categories
  assert (candle.name, pcb.name) == ('candle', 'pcb')
  assert [path.name for path in pcb.train] == ['0.JPG', '1.JPG']
  assert [
    (s.defect, s.label, s.path.name, [mask.name for mask in s.masks])
    for s in pcb.test
  ] == [('anomaly', 1, '7.JPG', ['7.png']), ('good', 0, '2.JPG', [])]
  assert not candle.test
  [chosen] = public.find_visa(root, ['pcb']).categories
  assert chosen == pcb


def test_a_file_that_visa_lacks_is_told(root):
  (root / 'pcb/Data/Images/Normal/1.JPG').unlink()
  with pytest.raises(FileNotFoundError, match=r'1\.JPG: no such file, but spl'):
    public.find_visa(root)


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ('pcb,train,anomaly,a.JPG,', 'line 3: an image of no such kind; expected'),
    ('pcb,train,normal,a.JPG', 'line 3: not enough'),
    ('pcb,train,normal,a.JPG,b.png,c', 'line 3: too many'),
    ('pcb,train,normal,,', 'line 3: an image of no such kind'),
    (',train,normal,a.JPG,', 'line 3: an image of no such kind'),
    ('pcb,test,normal,x.JPG,', r'line 3: x\.JPG is there twice'),
    ('pcb,train,normal,/etc/passwd,', 'line 3: names a file outside'),
    ('pcb,train,normal,../secret.png,', 'line 3: names a file outside'),
    ('fryum,test,normal,a.JPG,', 'no training images of fryum'),
    # What follows is all of the file.
    (b'\xff\xfe', "line .*'utf-8' codec"),
    (HEADER.encode() + b'\n' + 200_000 * b'x', 'line .*field larger than'),
    (HEADER.encode(), 'line .*no images in it'),
    (
      b'object,image\n',
      'line .*other columns; expected a table of object, spl',
    ),
  ],
)
def test_wrong_splits_are_told(tmp_path, row, message):
  write(tmp_path, 'pcb,train,normal,x.JPG,', *[row] * isinstance(row, str))
  if isinstance(row, bytes):
    (tmp_path / public.SPLIT).write_bytes(row)
  with pytest.raises((ValueError, OSError), match=rf'1cls\.csv.*{message}'):
    public.find_visa(tmp_path)


def test_every_class_of_cifar10_is_normal_once(tmp_path):
  files = cifar.write(tmp_path)
  pixels = np.concatenate([files[name][0] for name in public.TRAIN])
  labels = np.concatenate([files[name][1] for name in public.TRAIN])
  test, tested = files['test_batch.bin']
  found = public.find_cifar10(tmp_path).categories
  assert tuple(one.name for one in found) == public.CLASSES
  for number, one in enumerate(found):
    expected = pixels[labels == number]
    for record, image in zip(one.train, expected, strict=True):
      np.testing.assert_array_equal(images.read_image(record), image)
      assert images.check(record).size == (32, 32)
    assert sum(sample.label == 0 for sample in one.test) == 2
    for sample, image, label in zip(one.test, test, tested, strict=True):
      np.testing.assert_array_equal(images.read_image(sample.path), image)
      name = public.CLASSES[label]
      assert sample.defect == ('good' if name == one.name else name)
      assert not sample.masks
  found = public.find_cifar10(tmp_path, ['truck', 'cat']).categories
  assert [one.name for one in found] == ['cat', 'truck']


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, 'no such file .* --dataset=cifar10 gets it'),
    (b'', '0 bytes are no whole number of images'),
    (b'x' * 3072, '3072 bytes are no whole number'),
    (b'\n' * 3073, 'label 10, expected 0 to 9'),
  ],
)
def test_damaged_files_of_cifar10_are_told(tmp_path, content, message):
  cifar.write(tmp_path, train=1)
  path = tmp_path / 'data_batch_3.bin'
  path.unlink()
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(
    (ValueError, OSError), match=rf'batch_3\.bin: .*{message}'
  ):
    public.find_cifar10(tmp_path)


def test_a_class_without_images_is_told(tmp_path):
  cifar.write(tmp_path, train=1)
  for name in public.TRAIN:
    (tmp_path / name).write_bytes(bytes(3073))  # An airplane.
  with pytest.raises(ValueError, match='no training images of the class cat'):
    public.find_cifar10(tmp_path, ['cat'])


def test_ten_classes_train_side_by_side(tmp_path, backbone):
  config = small.make_config(tmp_path / 'data', backbone)
  config.data.source = config.data.dataset = 'cifar10'
  config.data.resize, config.data.crop = 64, 56  # As 256 and 224 are.
  config.seeds, config.train.epochs = (0,), 2
  with pytest.raises(FileNotFoundError, match=r'download --dataset=cifar10'):
    train.train_and_evaluate(config, tmp_path / 'none')
  cifar.write(tmp_path / 'data', train=4, test=1)
  found = train.train_and_evaluate(config, tmp_path / 'run')
  assert tuple(found['categories']) == public.CLASSES
  for name, one in found['categories'].items():
    assert 0 <= one['last']['image_auroc']['mean'] <= 1
    assert one['last']['pixel_auroc']['mean'] is None  # There are no masks.
    assert (tmp_path / f'run/detectors/{name}.safetensors').exists()
