"""Archives that become folders, and archives that must not."""

import fcntl
import gzip
import io
import os
import shutil
import stat
import tarfile
import tracemalloc
import types
import zipfile

import numpy as np
import pytest

from simplenet_jax.data import unpack
from tests.data.serving import contents, listing

RNG = np.random.default_rng(0)
FILES = {
  'bolt/train/good/0.png': RNG.bytes(3000),
  'bolt/test/crack/0.png': RNG.bytes(700_000),
  'nut/empty.txt': b'',
  'license.txt': b'CC0',
}
KINDS = ('tar', 'tar.gz', 'tar.bz2', 'tar.xz', 'zip')


def tar_entry(name, content=b'', kind=tarfile.REGTYPE, **others):
  entry = tarfile.TarInfo(name)
  entry.type, entry.size = kind, len(content)
  for field, value in others.items():
    setattr(entry, field, value)
  return entry, content


def tar(path, *entries, **others):
  with tarfile.open(path, f'w:{path.suffix[1:]}'[:5], **others) as archive:
    for entry, content in entries:
      archive.addfile(entry, io.BytesIO(content))
  return path


def pack(path, *entries):
  """Packs pairs of a name, which ends with / for a folder, and content."""
  if path.suffix == '.zip':
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
      for name, content in entries:
        archive.writestr(name, content)
    return path
  kinds = {True: tarfile.DIRTYPE, False: tarfile.REGTYPE}
  return tar(
    path,
    *(tar_entry(n.rstrip('/'), c, kinds[n.endswith('/')]) for n, c in entries),
  )


@pytest.fixture
def target(tmp_path):
  return tmp_path / 'data' / 'set'


def extract(archive, target):
  with unpack.staged(target) as aside:
    unpack.unpack(archive, aside).rename(target)


def refused(archive, target, match):
  """Nothing is left, and one line says why."""
  with pytest.raises(ValueError, match=match) as caught:
    extract(archive, target)
  assert '\n' not in str(caught.value)
  assert str(archive) in str(caught.value)
  assert listing(target.parent) == []


@pytest.mark.parametrize('prefix', ['', './top/'])
@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_is_unpacked(tmp_path, target, kind, prefix):
  folders = [(f'{prefix}{name}', b'') for name in ('bolt/', './bolt/')]
  files = [(f'{prefix}{name}', content) for name, content in FILES.items()]
  target.mkdir(parents=True)  # An empty folder is filled.
  extract(pack(tmp_path / f'set.{kind}', *folders, *files), target)
  assert contents(target) == FILES
  assert {path.split('/')[0] for path in listing(target.parent)} == {'set'}


OUTSIDE = ('/etc/cron.d/job', '../outside', 'a/../../outside', 'a/..', '..\\a')
STREAMS = ('C:/outside', 'C:outside', 'a/b:stream')
ODD = ('a\nb', 'a\x1b[2Jb', '\u202egnp.exe', 'n' * 256, 'a/' * 130 + 'b', '.')


@pytest.mark.parametrize('kind', ['tar', 'tar.xz', 'zip'])
@pytest.mark.parametrize('name', [*OUTSIDE, *STREAMS, *ODD])
def test_names_that_lead_elsewhere(tmp_path, target, kind, name):
  archive = pack(tmp_path / f'set.{kind}', ('a/ok', b'0'), (name, b'1'))
  refused(archive, target, 'leads elsewhere')
  assert listing(tmp_path) == ['data', archive.name]


def test_names_that_are_no_text(tmp_path, target):
  for name in ('a\0b', 'a\udcffb'):
    entry = tar_entry('x', b'0', pax_headers={'path': name})
    refused(tar(tmp_path / 'set.tar', entry), target, 'leads elsewhere')
  archive = pack(tmp_path / 'set.zip', ('ok', '0'), ('a.exe_b.png', '1'))
  content = archive.read_bytes()
  archive.write_bytes(content.replace(b'a.exe_b.png', b'a.exe\0b.png'))
  refused(archive, target, 'leads elsewhere')


@pytest.mark.parametrize(
  'kind',
  [
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
    *(tarfile.BLKTYPE, tarfile.GNUTYPE_SPARSE, b'Z'),
    *(stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR),
  ],
)
def test_other_things_than_files_and_folders(tmp_path, target, kind):
  if isinstance(kind, int):
    odd = zipfile.ZipInfo('odd')
    odd.create_system, odd.external_attr = 3, (kind | 0o777) << 16
    archive = pack(tmp_path / 'set.zip', ('ok', '0'), (odd, '/etc/passwd'))
  else:
    odd = tar_entry('a/odd', kind=kind, linkname='ok')
    after = tar_entry('a/odd/inside', b'1')
    archive = tar(tmp_path / 'set.tar', tar_entry('a/ok', b'0'), odd, after)
  refused(archive, target, 'no whole tar or zip of plain files')


@pytest.mark.parametrize('kind', ['tar', 'zip'])
@pytest.mark.parametrize(
  'names', [('a', 'a'), ('a', './a'), ('a', 'a/b'), ('a/b', 'a'), ('a', 'a/')]
)
@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_entries_in_each_others_place(tmp_path, target, kind, names):
  archive = pack(tmp_path / f'set.{kind}', *((name, b'') for name in names))
  refused(archive, target, 'two entries named')


@pytest.mark.parametrize('kind', KINDS)
def test_more_than_the_bounds(tmp_path, target, kind, monkeypatch):
  bomb = pack(tmp_path / f'bomb.{kind}', ('a', bytes(3_000_000)))
  if kind != 'tar':
    size = 100 * bomb.stat().st_size
    refused(bomb, target, rf'or {size / 1e6:.1f} MB in it')
  archive = pack(tmp_path / f'set.{kind}', *FILES.items())
  monkeypatch.setattr(unpack, '_MOST_ENTRIES', 3)
  refused(archive, target, 'more than 3 entries')
  monkeypatch.setattr(unpack, '_MOST_BYTES', 500_000)
  refused(archive, target, 'or 0.5 MB in it')


@pytest.mark.parametrize('size', [50_000_000, 10**12, -512])
def test_a_header_that_lies_about_its_size(tmp_path, target, size):
  """Neither memory nor the disk fills by what a header promises."""
  for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME):
    lie = tarfile.TarInfo('a')
    lie.type, lie.size = kind, size
    archive = tmp_path / 'set.tar'
    archive.write_bytes(lie.tobuf(tarfile.GNU_FORMAT) + bytes(20_000))
    refused(archive, target, 'no whole tar or zip')


@pytest.mark.parametrize('kind', KINDS)
def test_an_archive_that_is_cut_off_damaged_or_empty(tmp_path, target, kind):
  archive = pack(tmp_path / f'set.{kind}', *FILES.items())
  whole = archive.read_bytes()
  middle, cuts = len(whole) // 2, [2, len(whole) // 2, len(whole) - 1]
  if kind == 'tar':
    middle = 512 * 7  # Headers alone have checksums, as the second file's.
    cuts = [512, middle - 1, middle, middle + 511]
  flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
  others = (b'', b'not an archive' * 100, bytes(10_240), RNG.bytes(5000))
  for content in (*others, flipped, *(whole[:cut] for cut in cuts)):
    archive.write_bytes(content)
    refused(archive, target, 'no whole tar or zip')
  refused(pack(archive, ('a/', b'')), target, 'no files in it')


def test_a_long_name_is_not_read_into_memory(tmp_path, target):
  lie = tarfile.TarInfo('a')
  lie.type, lie.size = tarfile.GNUTYPE_LONGNAME, 50_000_000
  archive = tmp_path / 'set.tar.gz'
  header = lie.tobuf(tarfile.GNU_FORMAT)
  archive.write_bytes(gzip.compress(header + bytes(lie.size)))
  tracemalloc.start()
  refused(archive, target, 'no whole tar or zip')
  assert tracemalloc.get_traced_memory()[1] < 10_000_000
  tracemalloc.stop()


def test_encrypted_files_are_refused(tmp_path, target):
  archive = pack(tmp_path / 'set.zip', ('ok', '0'))
  content = bytearray(archive.read_bytes())
  content[6] |= 1
  content[content.index(b'PK\x01\x02') + 8] |= 1
  archive.write_bytes(content)
  refused(archive, target, 'is encrypted')


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
