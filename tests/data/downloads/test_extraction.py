"""Archives that become folders, and archives that must not."""

import collections
import fcntl
import io
import os
import resource
import shutil
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from simplenet_jax.data.downloads import extraction
from tests.data.downloads.serving import listing

RNG = np.random.default_rng(0)
FILES = {
  'bolt/train/good/0.png': RNG.bytes(3000),
  'bolt/test/crack/0.png': RNG.bytes(700_000),
  'nut/train/good/0.png': RNG.bytes(1024),
  'nut/empty.txt': b'',
  'license.txt': b'CC0',
}
TARS = ('tar', 'tar.gz', 'tar.bz2', 'tar.xz')
KINDS = (*TARS, 'zip')


def tar_entry(name, content=b'', kind=tarfile.REGTYPE, **others):
  entry = tarfile.TarInfo(name)
  entry.type, entry.size = kind, len(content)
  for field, value in others.items():
    setattr(entry, field, value)
  return entry, content


def tar(path, *entries, **others):
  mode = f'w:{path.suffix[1:]}'.removesuffix('tar')
  if mode == 'w:xz':
    others['preset'] = 0
  with tarfile.open(path, mode, **others) as archive:
    for entry, content in entries:
      archive.addfile(entry, io.BytesIO(content))
  return path


def zipped(path, *entries):
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, content in entries:
      archive.writestr(name, content)
  return path


def pack(path, files=FILES):
  if path.suffix == '.zip':
    return zipped(path, *files.items())
  return tar(path, *(tar_entry(*item) for item in files.items()))


@pytest.fixture(scope='module', params=KINDS)
def packed(request, tmp_path_factory):
  """`FILES` as an archive of each kind."""
  return pack(tmp_path_factory.mktemp('packed') / f'set.{request.param}')


@pytest.fixture
def target(tmp_path):
  return tmp_path / 'data' / 'set'


def extract(archive, target, most_bytes=10**9, most_entries=100, **others):
  return extraction.extract(
    archive,
    target,
    most_bytes=most_bytes,
    most_entries=most_entries,
    **others,
  )


def refused(archive, target, match, **others):
  """Nothing is left, and one line says why."""
  with pytest.raises(ValueError, match=match) as caught:
    extract(archive, target, **others)
  assert '\n' not in str(caught.value)
  assert str(archive) in str(caught.value)
  assert listing(target.parent) == []


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def test_every_kind_is_unpacked(packed, target, capsys):
  assert extract(packed, target) == target
  assert contents(target) == FILES
  assert listing(target.parent) == [
    'set',
    *(f'set/{n}' for n in listing(target)),
  ]
  assert capsys.readouterr().out.startswith('  extraction: 5 files, 704 kB in ')


def test_texts_are_put_beside(packed, target):
  extract(packed, target, also={'.note': 'whole'})
  assert contents(target) == {**FILES, '.note': b'whole'}


def test_texts_replace_nothing(packed, target):
  with pytest.raises(OSError, match='File exists'):
    extract(packed, target, also={'license.txt': 'none'})
  assert listing(target.parent) == []


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('prefix', ['top/', './', './top/'])
def test_a_folder_around_everything_is_taken_off(
  tmp_path, target, kind, prefix
):
  archive = pack(
    tmp_path / f'set.{kind}',
    {f'{prefix}{name}': content for name, content in FILES.items()},
  )
  extract(archive, target, also={'.note': ''})
  assert contents(target) == {**FILES, '.note': b''}


@pytest.mark.parametrize('inner', ['train/good', 'test/good', 'Data/Images'])
def test_a_category_is_not_taken_off(tmp_path, target, inner):
  files = {f'bolt/{inner}/0.png': b'0', f'bolt/{inner}/1.png': b'1'}
  extract(pack(tmp_path / 'set.tar', files), target)
  assert contents(target) == files


def test_a_file_alone_is_not_taken_off(tmp_path, target):
  extract(pack(tmp_path / 'set.zip', {'train': b'0'}), target)
  assert contents(target) == {'train': b'0'}


@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_folders_may_be_named_and_named_again(tmp_path, target, kind):
  if kind == 'tar':
    folders = [
      tar_entry(name, kind=tarfile.DIRTYPE) for name in ('.', 'a', 'a/b', 'a/')
    ]
    archive = tar(tmp_path / 'set.tar', *folders, tar_entry('a/b/c', b'c'))
  else:
    names = ['./', 'a/', 'a/b/', './a/']
    entries = [(name, '') for name in names]
    archive = zipped(tmp_path / 'set.zip', *entries, ('a/b/c', 'c'))
  extract(archive, target)
  assert contents(target) == {'b/c': b'c'}


def test_modes_and_owners_of_the_archive_do_not_count(tmp_path, target):
  odd = {'mode': 0o7777, 'uid': 12345, 'gid': 12345}
  entries = [
    tar_entry('a', kind=tarfile.DIRTYPE, **odd),
    tar_entry('b', kind=tarfile.DIRTYPE, mode=0),
    tar_entry('a/x', b'x', **odd),
    tar_entry('b/y', b'y', mode=0o400),
  ]
  before = os.umask(0o022)
  try:
    extract(tar(tmp_path / 'set.tar', *entries), target)
  finally:
    os.umask(before)
  for path in [target, *target.rglob('*')]:
    mode = stat.S_IMODE(path.stat().st_mode)
    assert mode == (0o755 if path.is_dir() else 0o644)
    assert path.stat().st_uid == os.getuid()


def test_long_names_of_each_format(tmp_path, target):
  name = f'{"f" * 120}/{"n" * 120}'
  for number, format_ in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
    archive = tmp_path / f'{number}.tar'
    tar(archive, tar_entry(name, b'0'), tar_entry('x', b''), format=format_)
    extract(archive, target.with_name(str(number)))
    assert contents(target.with_name(str(number)))[name] == b'0'


NAMES = [
  ('/etc/cron.d/job', 'leads elsewhere'),
  ('../outside', 'leads elsewhere'),
  ('a/../../outside', 'leads elsewhere'),
  ('a/..', 'leads elsewhere'),
  ('..\\outside', 'leads elsewhere'),
  ('C:/outside', 'leads elsewhere'),
  ('C:outside', 'leads elsewhere'),
  ('a/b:stream', 'leads elsewhere'),
  ('a\nb', 'not valid'),
  ('a\x1b[2Jb', 'not valid'),
  ('\u202egnp.exe', 'not valid'),
  ('n' * 256, 'not valid'),
  ('a/' * 130 + 'b', 'not valid'),
  ('.', 'not valid'),
]


@pytest.mark.parametrize('kind', ['tar', 'tar.xz', 'zip'])
@pytest.mark.parametrize(('name', 'match'), NAMES)
def test_names_that_lead_elsewhere(tmp_path, target, kind, name, match):
  archive = pack(tmp_path / f'set.{kind}', {'a/ok': b'0', name: b'1'})
  refused(archive, target, match)
  assert listing(tmp_path) == ['data', archive.name]


@pytest.mark.parametrize('name', ['a\0b', 'a\udcffb'])
def test_names_that_are_no_text(tmp_path, target, name):
  entry = tar_entry('x', b'0', pax_headers={'path': name})
  archive = tar(tmp_path / 'set.tar', entry, format=tarfile.PAX_FORMAT)
  refused(archive, target, 'not valid')


def test_a_zip_with_a_name_that_ends_early(tmp_path, target):
  archive = zipped(tmp_path / 'set.zip', ('ok', '0'), ('a.exe_b.png', '1'))
  content = archive.read_bytes()
  archive.write_bytes(content.replace(b'a.exe_b.png', b'a.exe\0b.png'))
  refused(archive, target, 'not valid')


@pytest.mark.parametrize(
  ('kind', 'match'),
  [
    (tarfile.SYMTYPE, 'is a link'),
    (tarfile.LNKTYPE, 'is a link'),
    (tarfile.FIFOTYPE, 'no plain file'),
    (tarfile.CHRTYPE, 'no plain file'),
    (tarfile.BLKTYPE, 'no plain file'),
    (tarfile.GNUTYPE_SPARSE, 'no plain file|damaged'),
    (b'Z', 'no plain file'),
  ],
)
def test_tars_of_other_things(tmp_path, target, kind, match):
  odd = tar_entry('a/odd', kind=kind, linkname='ok')
  after = tar_entry('a/odd/inside', b'1')
  archive = tar(tmp_path / 'set.tar', tar_entry('a/ok', b'0'), odd, after)
  refused(archive, target, match)


@pytest.mark.parametrize('kind', [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_zips_of_other_things(tmp_path, target, kind):
  odd = zipfile.ZipInfo('odd')
  odd.create_system, odd.external_attr = 3, (kind | 0o777) << 16
  archive = zipped(tmp_path / 'set.zip', ('ok', '0'), (odd, '/etc/passwd'))
  refused(archive, target, "'odd' is a link or a device")


def test_encrypted_zips(tmp_path, target):
  archive = zipped(tmp_path / 'set.zip', ('ok', '0'))
  content = bytearray(archive.read_bytes())
  content[6] |= 1
  content[content.index(b'PK\x01\x02') + 8] |= 1
  archive.write_bytes(content)
  refused(archive, target, "'ok' is encrypted")


@pytest.mark.parametrize('kind', ['tar', 'zip'])
@pytest.mark.parametrize(
  'names', [('a', 'a'), ('a', './a'), ('a', 'a/b'), ('a/b', 'a'), ('a', 'a/')]
)
@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_entries_in_each_others_place(tmp_path, target, kind, names):
  if kind == 'tar':
    entries = [
      tar_entry(
        name.rstrip('/'),
        kind=tarfile.DIRTYPE if name.endswith('/') else tarfile.REGTYPE,
      )
      for name in names
    ]
    archive = tar(tmp_path / 'set.tar', *entries)
  else:
    archive = zipped(tmp_path / 'set.zip', *((name, '') for name in names))
  refused(archive, target, 'two entries named')


def test_more_than_the_data_set_has(packed, target):
  refused(packed, target, 'more than 500 kB in it', most_bytes=500_000)
  refused(packed, target, 'more than 4 entries', most_entries=4)


@pytest.mark.parametrize('kind', ['tar.gz', 'tar.xz', 'zip'])
def test_bombs(tmp_path, target, kind):
  archive = pack(tmp_path / f'set.{kind}', {'a': bytes(3_000_000)})
  size = archive.stat().st_size
  refused(archive, target, f'more than {size / 10:.0f} kB in it')


def test_a_header_that_lies_about_its_size(tmp_path, target):
  """Neither memory nor the disk fills by what a header promises."""
  archive = tmp_path / 'set.tar.gz'
  lie = tarfile.TarInfo('././@LongLink')
  lie.type, lie.size = tarfile.GNUTYPE_LONGNAME, 50_000_000
  with tarfile.open(archive, 'w:gz') as out:
    out.addfile(lie, io.BytesIO(bytes(lie.size)))
    out.addfile(tarfile.TarInfo('x'))
  refused(archive, target, 'implausible size')
  lie.type, lie.size = tarfile.REGTYPE, 10**12
  archive = tmp_path / 'set.tar'
  archive.write_bytes(lie.tobuf() + bytes(20_000))
  refused(archive, target, 'damaged')


def test_a_size_below_nothing(tmp_path, target):
  entry = tarfile.TarInfo('a')
  entry.size = -512
  archive = tmp_path / 'set.tar'
  archive.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(20_000))
  refused(archive, target, 'damaged')


SMALL = {'bolt/a.png': RNG.bytes(1000), 'b.png': RNG.bytes(100), 'c': b''}


def test_an_archive_that_is_cut_off(tmp_path, target):
  for kind in KINDS:
    archive = pack(tmp_path / f'set.{kind}', SMALL)
    whole = archive.read_bytes()
    # A plain tar ends with zeros; only the first 512 of them are missed.
    end = 512 * 6 + 511 if kind == 'tar' else len(whole) - 1
    for length in sorted({*range(0, end, 97), *range(0, end, 512), end}):
      archive.write_bytes(whole[:length])
      refused(archive, target, 'damaged|no files')


def test_an_archive_that_is_damaged(tmp_path, target):
  for kind in ('tar.gz', 'tar.bz2', 'tar.xz', 'zip'):
    archive = pack(tmp_path / f'set.{kind}', SMALL)
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    archive.write_bytes(damaged)
    refused(archive, target, 'damaged')


def test_a_tar_that_is_damaged_between_files(tmp_path, target):
  archive = pack(tmp_path / 'set.tar', SMALL)
  damaged = bytearray(archive.read_bytes())
  damaged[512 + 1024] ^= 1  # The second file's header.
  archive.write_bytes(damaged)
  refused(archive, target, 'damaged')


@pytest.mark.parametrize(
  'content',
  [b'', b'P', b'PK', b'not an archive' * 100, bytes(10_240), RNG.bytes(5000)],
)
def test_files_that_are_no_archives(tmp_path, target, content):
  archive = tmp_path / 'set.tar'
  archive.write_bytes(content)
  refused(archive, target, 'no tar or zip|no files in it')


def test_an_archive_without_files(tmp_path, target):
  folder = tar_entry('a', kind=tarfile.DIRTYPE)
  refused(tar(tmp_path / 'set.tar', folder), target, 'no files in it')
  refused(zipped(tmp_path / 'set.zip'), target, 'no files in it')


def test_no_archive(tmp_path, target):
  with pytest.raises(FileNotFoundError, match=r'none\.tar'):
    extract(tmp_path / 'none.tar', target)
  assert not target.parent.exists()


def there(target, kind):
  target.mkdir(parents=True)
  (target / 'mine').touch()
  if kind == 'file':
    shutil.rmtree(target)
    target.touch()
  elif kind == 'link':
    target.rename(target.with_name('elsewhere'))
    target.symlink_to('elsewhere')
  elif kind == 'broken link':
    shutil.rmtree(target)
    target.symlink_to('nowhere')


@pytest.mark.parametrize('kind', ['folder', 'file', 'link', 'broken link'])
def test_what_is_there_is_left_as_it_is(packed, target, kind):
  there(target, kind)
  before = listing(target.parent)
  with pytest.raises(ValueError, match='is there already') as caught:
    extract(packed, target)
  assert str(target) in str(caught.value)
  assert listing(target.parent) == before


def test_an_empty_folder_is_filled(packed, target):
  target.mkdir(parents=True)
  extract(packed, target)
  assert contents(target) == FILES


def test_what_a_dead_run_left_is_removed(packed, target):
  left = target.with_name('.partial-1-set')
  (left / 'bolt').mkdir(parents=True)
  other = target.with_name('.partial-1-another set')
  other.mkdir()
  extract(packed, target)
  assert not left.exists()
  assert other.exists()


def test_what_a_live_run_does_is_left(packed, target):
  live = target.with_name('.partial-1-set')
  live.mkdir(parents=True)
  descriptor = os.open(live, os.O_RDONLY)
  fcntl.flock(descriptor, fcntl.LOCK_EX)
  with pytest.raises(ValueError, match='another run extracts it') as caught:
    extract(packed, target)
  os.close(descriptor)
  assert str(target) in str(caught.value)
  assert listing(target.parent) == [live.name]


@pytest.mark.parametrize('error', [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_nothing(packed, target, monkeypatch, error):
  def interrupted(self, *_):
    assert any(target.parent.glob('.partial-*/bolt/train/good/0.png'))
    raise error

  monkeypatch.setattr(extraction.Board, 'show', interrupted)
  with pytest.raises(error):
    extract(packed, target)
  assert listing(target.parent) == []


@pytest.fixture
def full_disk():
  """A limit on the size of files acts as a disk that is full."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (650_000, before[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing(packed, target, full_disk):
  with pytest.raises(OSError, match='File too large while') as caught:
    extract(packed, target)
  assert '\n' not in str(caught.value)
  assert str(target) in str(caught.value)
  assert listing(target.parent) == []


def test_a_disk_without_room_is_told_before(packed, target, monkeypatch):
  usage = collections.namedtuple('Usage', 'free')(1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  with pytest.raises(OSError, match=r'needs \d+ kB, 1 kB are free') as caught:
    extract(packed, target)
  assert '\n' not in str(caught.value)
  assert listing(target.parent) == []
