"""CIFAR-10's binary files as ten one-class problems."""

import numpy as np
import pytest

from simplenet_jax.data import cifar10, images
from tests.data import cifar


@pytest.fixture
def written(tmp_path):
  return tmp_path, cifar.write(tmp_path)


def test_every_class_is_normal_once(written):
  root, _ = written
  found = cifar10.find_categories(root)
  assert tuple(one.name for one in found) == cifar10.CLASSES
  for one in found:
    assert len(one.train) == 10
    assert len(one.test) == 20
    assert sum(sample.label == 0 for sample in one.test) == 2
    assert not any(sample.masks for sample in one.test)
    defects = {sample.defect for sample in one.test}
    assert defects == {'good', *cifar10.CLASSES} - {one.name}


def test_pixels_are_those_of_the_class_in_order(written):
  root, files = written
  pixels = np.concatenate([files[name][0] for name in cifar10.TRAIN])
  labels = np.concatenate([files[name][1] for name in cifar10.TRAIN])
  for label, one in enumerate(cifar10.find_categories(root)):
    expected = pixels[labels == label]
    for record, image in zip(one.train, expected, strict=True):
      np.testing.assert_array_equal(images.read_image(record), image)
      assert images.check(record).size == (32, 32)
  test, labels = files['test_batch.bin']
  for sample, image, label in zip(one.test, test, labels, strict=True):
    np.testing.assert_array_equal(images.read_image(sample.path), image)
    assert (sample.defect == 'good') == (cifar10.CLASSES[label] == one.name)


def test_names_choose(written):
  root, _ = written
  found = cifar10.find_categories(root, ['truck', 'cat'])
  assert [one.name for one in found] == ['cat', 'truck']
  with pytest.raises(ValueError, match='has no class lorry; there are airpl'):
    cifar10.find_categories(root, ['lorry'])


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda p: p.unlink(), 'no such file .* --dataset=cifar10 gets it'),
    (lambda p: p.write_bytes(b''), '0 bytes are no whole number of images'),
    (lambda p: p.write_bytes(b'x' * 3072), '3072 bytes are no whole number'),
    (lambda p: p.write_bytes(b'\n' * 3073), 'label 10, expected 0 to 9'),
  ],
)
def test_damaged_files_are_told(written, change, message):
  root, _ = written
  change(root / 'data_batch_3.bin')
  with pytest.raises((ValueError, OSError), match=message) as caught:
    cifar10.find_categories(root)
  assert 'data_batch_3.bin' in str(caught.value)


def test_a_class_without_images_is_told(tmp_path):
  cifar.write(tmp_path, train=1)
  for name in cifar10.TRAIN:
    (tmp_path / name).write_bytes(bytes(3073))  # An airplane.
  with pytest.raises(ValueError, match='no training images of the class cat'):
    cifar10.find_categories(tmp_path, ['cat'])
