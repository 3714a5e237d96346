"""Files that replace others, and who may read them."""

import csv
import io
import os
import stat
import threading
from concurrent import futures

import numpy as np
import pytest

from simplenet_jax.files import atomic_write, csv_text, write_arrays


def mode(path):
  return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize('umask', [0o022, 0o027, 0o002])
def test_arrays_have_the_mode_that_the_umask_gives(tmp_path, umask):
  path, before = tmp_path / 'arrays.safetensors', os.umask(umask)
  try:
    write_arrays(path, {'one': np.ones(2)}, {})
  finally:
    os.umask(before)
  assert mode(path) == 0o666 & ~umask


@pytest.mark.parametrize('kept', [0o600, 0o640, 0o664])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, kept):
  path = tmp_path / 'detector.safetensors'
  path.write_bytes(b'old')
  path.chmod(kept)
  with atomic_write(path) as aside:
    write_arrays(aside, {'one': np.ones(2)}, {})
  assert path.stat().st_size > 3
  assert mode(path) == kept


def test_tables_read_back_whatever_is_in_them():
  rows = [['a\rb.png', '1'], ['a\nb', ''], ['a"b', ','], ['plain', '2']]
  text = csv_text(rows)
  assert list(csv.reader(io.StringIO(text, newline=''))) == rows
  assert text.endswith('\nplain,2\n')


def test_two_threads_can_write_the_same_file(tmp_path):
  path, both = tmp_path / 'arrays.safetensors', threading.Barrier(2)

  def write(value):
    with atomic_write(path) as aside:
      aside.write_text(value)
      both.wait(10)
      return aside.read_text()

  with futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(write, 'ab')) == ['a', 'b']
  assert path.read_text() in 'ab'
  assert list(tmp_path.iterdir()) == [path]
