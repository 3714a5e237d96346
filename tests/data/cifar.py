"""CIFAR-10's binary version, small and generated."""

import tarfile

import numpy as np

from simplenet_jax.data import cifar10


def write(folder, train=10, test=2, seed=0):
  """Writes the data set's files; returns each image and label by its file.

  Args:
    folder: Made.
    train: Images of each class, spread over the five training files.
    test: Images of each class.
    seed: Of noise; every class has a brightness of its own.
  """
  rng = np.random.default_rng(seed)
  folder.mkdir(parents=True, exist_ok=True)
  found = {}
  labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), train))
  parts = dict(zip(cifar10.TRAIN, np.array_split(labels, 5), strict=True))
  parts['test_batch.bin'] = rng.permutation(
    np.repeat(np.arange(10, dtype=np.uint8), test)
  )
  for name, labels in parts.items():
    pixels = rng.integers(0, 40, (len(labels), 32, 32, 3), np.uint8)
    pixels += (20 * labels)[:, None, None, None]
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    (folder / name).write_bytes(
      np.concatenate([labels[:, None], planes], 1).tobytes()
    )
    found[name] = pixels, labels
  (folder / 'batches.meta.txt').write_text('\n'.join(cifar10.CLASSES) + '\n')
  return found


def pack(folder, path):
  """Packs the files as the archive has them."""
  with tarfile.open(path, 'w:gz') as archive:
    archive.add(folder, 'cifar-10-batches-bin')
  return path
