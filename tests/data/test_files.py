"""Finding images by a folder, a file or a pattern."""

import os

import pytest

from simplenet_jax.data import files


@pytest.fixture
def root(tmp_path):
  for name in (
    'b.png',
    'a.JPG',
    'deep/er/c.tiff',
    'deep/d.webp',
    'deep/notes.txt',
    'deep/.hidden.png',
    '.cache/e.png',
    'Thumbs.db',
    'like.png/f.bmp',
    'png',
  ):
    path = tmp_path / 'line 4' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  return tmp_path / 'line 4'


EXPECTED = ['a.JPG', 'b.png', 'deep/d.webp', 'deep/er/c.tiff', 'like.png/f.bmp']


def names(root, found):
  return [path.relative_to(root).as_posix() for path in found]


def test_a_folder_gives_all_images_in_it_sorted(root):
  assert names(root, files.find(root)) == EXPECTED
  assert files.locate(str(root), '--input') == files.find(root)


def test_a_folder_may_itself_be_hidden_or_a_link(root, tmp_path):
  (tmp_path / 'link').symlink_to(root)
  assert names(tmp_path / 'link', files.find(tmp_path / 'link')) == EXPECTED
  assert names(root, files.find(root / '.cache')) == ['.cache/e.png']


def test_loops_of_links_end(root):
  (root / 'deep/up').symlink_to(root)
  (root / 'self').symlink_to('self')
  assert names(root, files.find(root)) == EXPECTED


def test_results_and_masks_are_passed_over(root):
  (root / 'deep/predictions.csv').touch()
  (root / 'deep/er').rename(root / 'deep/maps')
  (root / 'like.png').rename(root / 'ground_truth')
  # What is beside the table is nobody's result.
  assert names(root, files.find(root)) == ['a.JPG', 'b.png', 'deep/d.webp']
  assert files.locate(f'{root}/deep/maps/*', '-')  # They can still be named.
  assert len(files.find(root / 'ground_truth')) == 1


def test_a_folder_without_images_is_refused(root):
  (root / 'empty').mkdir()
  for find in (files.find, lambda path: files.locate(str(path), '--input')):
    with pytest.raises(FileNotFoundError, match=r'empty: no images \(.*\.png'):
      find(root / 'empty')


def test_a_file_is_taken_whatever_its_name(root):
  for name in ('b.png', 'deep/notes.txt', 'deep/.hidden.png'):
    assert files.locate(str(root / name), '--input') == [root / name]


def test_a_pattern_gives_files_sorted(root):
  found = files.locate(f'{root}/*', '--input')
  assert names(root, found) == ['Thumbs.db', 'a.JPG', 'b.png', 'png']
  found = files.locate(f'{root}/**/*.[tw][ie]*', '--input')
  assert names(root, found) == ['deep/d.webp', 'deep/er/c.tiff']
  found = files.locate(f'{root}/?.png', '--input')
  assert names(root, found) == ['b.png']


def test_brackets_in_a_name_are_no_pattern_where_it_exists(root):
  odd = root / 'b[1].png'
  odd.touch()
  assert files.locate(str(odd), '--input') == [odd]


def test_the_home_folder_is_known(root, monkeypatch):
  monkeypatch.setenv('HOME', str(root))
  assert files.locate('~/b.png', '--input') == [root / 'b.png']
  assert names(root, files.locate('~/deep/*.webp', '-')) == ['deep/d.webp']


def test_a_relative_path_stays_relative(root, monkeypatch):
  monkeypatch.chdir(root.parent)
  (found,) = files.locate(f'{root.name}{os.sep}b.png', '--input')
  assert str(found) == 'line 4/b.png'


@pytest.mark.parametrize('name', ['none', 'none.png', '*.gif', 'like*'])
def test_nothing_found_names_the_flag(root, name):
  with pytest.raises(FileNotFoundError, match=r'--input=.*: no such file') as e:
    files.locate(f'{root}/{name}', '--input')
  assert f'{root}/{name}' in str(e.value)


def test_an_empty_flag_is_told():
  with pytest.raises(FileNotFoundError, match='--images is empty; give a file'):
    files.locate('', '--images')


def test_a_tilde_without_a_home_is_part_of_a_name(root, monkeypatch):
  monkeypatch.chdir(root)
  (root / '~old.png').touch()
  (found,) = files.locate('~old.png', '--input')
  assert found.name == '~old.png'
  with pytest.raises(FileNotFoundError, match='no such file'):
    files.locate('~none.png', '--input')
