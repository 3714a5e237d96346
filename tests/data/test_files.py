"""Finding images by a folder, a file or a pattern."""

import pytest

from simplenet_jax.data import files, tree


def touch(root, *names):
  """Makes empty files below a folder; returns it."""
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  return root


@pytest.fixture
def root(tmp_path):
  return touch(
    tmp_path / 'line 4',
    *('b.png', 'a.JPG', 'deep/er/c.tiff', 'deep/d.webp', 'deep/notes.txt'),
    *('deep/.hidden.png', '.cache/e.png', 'Thumbs.db', 'like.png/f.bmp', 'png'),
  )


EXPECTED = ['a.JPG', 'b.png', 'deep/d.webp', 'deep/er/c.tiff', 'like.png/f.bmp']


def names(root, found):
  return [path.relative_to(root).as_posix() for path in found.images]


def left_out(root, found):
  return {str(p.relative_to(root)): why for p, why in found.left_out.items()}


def test_a_folder_gives_all_images_in_it_sorted(root):
  found = files.find(root)
  assert names(root, found) == EXPECTED
  assert files.locate(str(root), '--input') == found
  assert left_out(root, found) == {
    'deep/notes.txt': tree.NO_IMAGE,
    'deep/.hidden.png': tree.HIDDEN_IMAGE,
    '.cache/e.png': tree.HIDDEN_IMAGE,
    'Thumbs.db': tree.HIDDEN,
    'png': tree.NO_IMAGE,
  }


def test_what_is_given_is_told(root, caplog):
  lines = files.find(root).tell('image to predict').splitlines()
  assert lines[0] == '        5  image to predict, such as a.JPG'
  assert lines[1:] == [
    '        2  left out: a hidden image, such as .cache/e.png',
    "        1  left out: hidden, or a system's own, such as Thumbs.db",
    '        2  left out: no image by its content, such as deep/notes.txt',
  ]
  assert caplog.messages == [
    f'{root}: left out: a hidden image: 2 in .cache, deep, such as .cache/e.png'
  ]


def test_links_are_followed_and_each_file_is_taken_once(root, tmp_path):
  other = touch(tmp_path / 'other', 'x.png')
  (root / 'camera 2').symlink_to(other)
  for name, target in (('z.png', 'b.png'), ('up', '.'), ('self', 'self')):
    (root / name).symlink_to(target)
  found = files.find(root)
  assert names(root, found) == sorted([*EXPECTED, 'camera 2/x.png'])
  reasons = [found.left_out[root / name] for name in ('z.png', 'up', 'self')]
  assert reasons == [tree.TWICE, tree.LOOP, tree.NOTHING]
  pattern = files.locate(f'{root}/**/**/*.[pJ][nP]*', '--input')
  assert names(root, pattern) == ['a.JPG', 'b.png', 'camera 2/x.png']


def test_results_and_masks_are_passed_over(root):
  (root / 'deep/predictions.csv').touch()
  (root / 'deep/er').rename(root / 'deep/maps')
  (root / 'like.png').rename(root / 'Masks')  # As VisA calls them.
  # What is beside the table is nobody's result.
  found = files.find(root)
  assert names(root, found) == ['a.JPG', 'b.png', 'deep/d.webp']
  assert found.left_out[root / 'deep/maps/c.tiff'] == files.A_RESULT
  assert found.left_out[root / 'Masks/f.bmp'] == files.A_MASK
  # They can still be named.
  assert files.locate(f'{root}/deep/maps/*', '-').images
  assert len(files.find(root / 'Masks').images) == 1


def test_good_images_alone(tmp_path):
  touch(tmp_path, 'a.png', 'good/b.png', 'bad/c.png', 'new/e.png')
  found = files.find(tmp_path, good=True)
  assert names(tmp_path, found) == ['good/b.png']
  assert set(found.left_out.values()) == {files.NOT_GOOD}
  (tmp_path / 'train').mkdir()
  (tmp_path / 'good').rename(tmp_path / 'train/good')
  with_train = files.find(tmp_path, good=True)
  assert with_train.left_out[tmp_path / 'train/good/b.png'] == files.TRAINED
  (tmp_path / 'train/good').rename(tmp_path / 'old')
  assert names(tmp_path, files.find(tmp_path, good=True)) == [
    *('a.png', 'new/e.png', 'old/b.png')
  ]


def test_a_pattern_leaves_folders_and_masks_out(root):
  (root / 'deep').rename(root / 'masks')
  found = files.locate(f'{root}/*', '--input')
  assert left_out(root, found)['masks'] == files.A_FOLDER
  found = files.locate(f'{root}/**/*.[wp][en]*', '--input')
  assert left_out(root, found)['masks/d.webp'] == files.A_MASK


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    ('b.png', ['b.png']),
    ('deep/notes.txt', ['deep/notes.txt']),  # A file whatever its name.
    ('deep/.hidden.png', ['deep/.hidden.png']),
    ('b[1].png', ['b[1].png']),  # No pattern where it exists.
    ('~old.png', ['~old.png']),
    ('~/b.png', ['b.png']),
    ('~/deep/*.webp', ['deep/d.webp']),
    ('*', ['a.JPG', 'b.png', 'b[1].png', '~old.png']),
    ('**/*.[tw][ie]*', ['deep/d.webp', 'deep/er/c.tiff']),
    ('?.png', ['b.png']),
  ],
)
def test_what_a_flag_names(root, monkeypatch, given, expected):
  touch(root, 'b[1].png', '~old.png')
  monkeypatch.chdir(root)
  monkeypatch.setenv('HOME', str(root))
  found = files.locate(given, '--input').images
  assert [path.resolve().relative_to(root).as_posix() for path in found] == (
    expected
  )


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    *((name, 'no such file') for name in ('none', '*.gif', 'like*', '~x')),
    ('empty', r'empty: no images in it; .*a\.txt is left out'),
  ],
)
def test_nothing_found_is_refused(root, name, message):
  touch(root, 'empty/a.txt')
  with pytest.raises(FileNotFoundError, match=message) as error:
    files.locate(f'{root}/{name}', '--input')
  assert f'{root}/{name}' in str(error.value)
  with pytest.raises(FileNotFoundError, match='--images is empty; give a file'):
    files.locate('', '--images')
