"""Archives that become folders, whole or not at all."""

import contextlib
import fcntl
import io
import os
import shutil
import tarfile
import types
import zipfile

import numpy as np
import pytest

from simplenet_jax.data import download
from tests.data.serving import contents, listing

RNG = np.random.default_rng(0)
FILES = {
  'bolt/train/good/0.png': RNG.bytes(3000),
  'bolt/test/crack/0.png': RNG.bytes(700_000),
  'nut/empty.txt': b'',
  'license.txt': b'CC0',
}
KINDS = ('tar', 'tar.gz', 'tar.bz2', 'tar.xz', 'zip')


def pack(path, *entries):
  """Packs pairs of a name, which ends with / for a folder, and content."""
  if path.suffix == '.zip':
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
      for name, content in entries:
        archive.writestr(name, content)
    return path
  with tarfile.open(path, f'w:{path.suffix[1:]}'[:5]) as archive:
    for name, content in entries:
      entry = tarfile.TarInfo(name.rstrip('/'))
      entry.type = tarfile.DIRTYPE if name.endswith('/') else tarfile.REGTYPE
      entry.size = len(content)
      archive.addfile(entry, io.BytesIO(content))
  return path


@pytest.fixture
def target(tmp_path):
  return tmp_path / 'data' / 'set'


def extract(archive, target):
  with download.staged(target) as aside:
    download.unpack(archive, aside).rename(target)


@pytest.mark.parametrize('prefix', ['', './top/'])
@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_is_unpacked(tmp_path, target, kind, prefix):
  folders = [(f'{prefix}{name}', b'') for name in ('bolt/', './bolt/')]
  files = [(f'{prefix}{name}', content) for name, content in FILES.items()]
  target.mkdir(parents=True)  # An empty folder is filled.
  extract(pack(tmp_path / f'set.{kind}', *folders, *files), target)
  assert contents(target) == FILES
  assert {path.split('/')[0] for path in listing(target.parent)} == {'set'}


def test_nothing_is_written_elsewhere(tmp_path, target):
  for kind in ('tar', 'zip'):
    archive = pack(tmp_path / f'set.{kind}', ('../../outside', b'1'))
    with contextlib.suppress(tarfile.FilterError):
      extract(archive, target)
    assert not {*listing(tmp_path)} & {'outside', 'data/outside'}


def test_what_is_there_is_left_as_it_is(tmp_path, target):
  archive = pack(tmp_path / 'set.tar', *FILES.items())
  target.parent.mkdir()
  for make in (
    target.touch,
    lambda: target.symlink_to('nowhere'),
    lambda: target.symlink_to(tmp_path),
    lambda: (target / 'mine').mkdir(parents=True),
  ):
    make()
    before = listing(target.parent)
    with pytest.raises(ValueError, match='exists already') as caught:
      extract(archive, target)
    assert str(target) in str(caught.value)
    assert listing(target.parent) == before
    if not (target / 'mine').exists():
      target.unlink()


def test_what_another_run_makes_is_left_until_it_ended(tmp_path, target):
  archive = pack(tmp_path / 'set.tar', *FILES.items())
  left = target.with_name('.partial-set')
  (left / 'all/bolt').mkdir(parents=True)
  descriptor = os.open(left, os.O_RDONLY)
  fcntl.flock(descriptor, fcntl.LOCK_EX)
  before = listing(target.parent)
  with pytest.raises(ValueError, match='set: another run makes it'):
    extract(archive, target)
  assert listing(target.parent) == before
  os.close(descriptor)
  extract(archive, target)
  assert contents(target) == FILES
  assert not left.exists()


def test_a_full_disk_leaves_nothing(tmp_path, target, monkeypatch, file_limit):
  archive = pack(tmp_path / 'set.tar', *FILES.items())
  file_limit(650_000)
  with pytest.raises(OSError, match='data: File too large while'):
    extract(archive, target)
  assert listing(target.parent) == []
  usage = types.SimpleNamespace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  with pytest.raises(OSError, match=r'needs 0\.7 MB, 0\.0 MB are free'):
    extract(archive, target)
  assert listing(target.parent) == []
