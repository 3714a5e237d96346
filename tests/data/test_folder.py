"""Finding images and masks in folders."""

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_jax.data import folder


def _touch(root: Path, *names: str) -> Path:
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  return root


@pytest.fixture
def root(tmp_path):
  """Two categories, one of them with defects, and litter."""
  return _touch(
    tmp_path,
    'nut/train/good/001.png',
    'nut/train/good/000.png',
    'bolt/train/good/a.JPG',
    'bolt/train/good/b.tiff',
    'bolt/train/good/.hidden.png',
    'bolt/train/good/Thumbs.db',
    'bolt/train/good/notes.txt',
    'bolt/test/good/0.png',
    'bolt/test/bent/0.png',
    'bolt/test/bent/1.png',
    'bolt/test/bent/2.png',
    'bolt/test/.DS_Store/0.png',
    'bolt/ground_truth/bent/2_mask.png',
    'bolt/ground_truth/bent/0.bmp',
    'bolt/readme.txt',
    'license.txt',
    'results/0.png',
    '.cache/train/good/0.png',
  )


def _names(category):
  return [
    (s.defect, s.path.name, s.mask and s.mask.name, s.label)
    for s in category.test
  ]


def test_finds_everything_sorted(root):
  bolt, nut = folder.find_categories(root)
  assert bolt.name == 'bolt'
  assert [path.name for path in bolt.train] == ['a.JPG', 'b.tiff']
  assert _names(bolt) == [
    ('bent', '0.png', '0.bmp', 1),
    ('bent', '1.png', None, 1),
    ('bent', '2.png', '2_mask.png', 1),
    ('good', '0.png', None, 0),
  ]
  assert bolt.test[0].mask == root / 'bolt/ground_truth/bent/0.bmp'
  assert [path.name for path in nut.train] == ['000.png', '001.png']
  assert nut.test == ()
  assert folder.describe(bolt) == '2 train, 4 test (3 defective, 2 masks)'
  assert folder.describe(nut) == '2 train, 0 test (0 defective, 0 masks)'


def test_names_choose(root):
  (nut,) = folder.find_categories(str(root), ['nut'])
  assert nut.name == 'nut'
  with pytest.raises(ValueError, match=r'no category gear; .* bolt, nut'):
    folder.find_categories(root, ['nut', 'gear'])


def test_a_name_never_leaves_the_root(root):
  with pytest.raises(ValueError, match=r'no category \.\./nut'):
    folder.find_categories(root / 'bolt', ['../nut'])


def test_a_root_that_is_a_category(root):
  (bolt,) = folder.find_categories(root / 'bolt')
  assert bolt == folder.find_categories(root, ['bolt'])[0]
  assert folder.find_categories(root / 'bolt', ['bolt']) == (bolt,)


def test_current_folder_has_its_own_name(root, monkeypatch):
  monkeypatch.chdir(root / 'nut')
  assert folder.find_categories('.')[0].name == 'nut'


def test_missing_and_empty_roots(tmp_path):
  with pytest.raises(FileNotFoundError, match='none: no such folder'):
    folder.find_categories(tmp_path / 'none')
  with pytest.raises(ValueError, match=r'no categories; expected .*train/good'):
    folder.find_categories(tmp_path)


@pytest.mark.parametrize(
  'name', ['bolt/train/0.png', 'bolt/train/good/0.txt', 'bolt/test/good/0.png']
)
def test_no_training_images(tmp_path, name):
  _touch(tmp_path, name, 'nut/train/good/0.png')
  with pytest.raises(ValueError, match='bolt: no training images'):
    folder.find_categories(tmp_path)


def test_a_category_that_files_cannot_be_named_after(tmp_path):
  (tmp_path / ('é' * 101) / 'train/good').mkdir(parents=True)
  with pytest.raises(
    ValueError, match=r'name is too long .* at most 200 bytes'
  ):
    folder.find_categories(tmp_path)


def test_test_images_outside_their_folders(tmp_path):
  _touch(tmp_path, 'train/good/0.png', 'test/7.png')
  with pytest.raises(ValueError, match=r'7\.png: a test image belongs in'):
    folder.find_categories(tmp_path)


@pytest.mark.parametrize('mask', ['bent/9_mask.png', 'worn/0_mask.png'])
def test_orphan_mask(root, mask):
  _touch(root / 'bolt/ground_truth', mask)
  with pytest.raises(ValueError, match=f'{mask}: a mask without an image'):
    folder.find_categories(root)


def test_masks_of_good_images_are_passed_over(root):
  _touch(root / 'bolt/ground_truth/good', '0_mask.png', '5_mask.png')
  bolt, _ = folder.find_categories(root)
  assert bolt.test[-1] == folder.Sample(root / 'bolt/test/good/0.png', 'good')


def test_two_images_for_one_mask(root):
  _touch(root / 'bolt/test/bent', '2.jpg')
  with pytest.raises(ValueError, match=r'2_mask\.png: .* 2\.jpg, 2\.png in'):
    folder.find_categories(root)


def test_a_mask_that_fits_two_stems(root):
  _touch(root / 'bolt/test/bent', '2_mask.png')
  with pytest.raises(ValueError, match=r'could belong to 2\.png, 2_mask\.png'):
    folder.find_categories(root)


def test_two_masks_for_one_image(root):
  _touch(root / 'bolt/ground_truth/bent', '2.png')
  with pytest.raises(ValueError, match=r'two masks, 2\.png and 2_mask\.png'):
    folder.find_categories(root)


def test_equal_stems_without_a_mask_are_two_images(root):
  _touch(root / 'bolt/test/bent', '1.jpg')
  bolt, _ = folder.find_categories(root)
  assert len(bolt.test) == 5


def test_symlink_cycles_are_harmless(root):
  expected = folder.find_categories(root)
  for link, target in (
    ('loop', root),
    ('bolt/test/bent/up', root),
    ('bolt/test/self.png', 'self.png'),
    ('bolt/train/good/self.png', 'self.png'),
    ('self', 'self'),
  ):
    (root / link).symlink_to(target)
  assert folder.find_categories(root) == expected


def test_mvtec(shared):
  (category,) = folder.find_categories(shared('data/transistor'))
  assert category.name == 'transistor'
  assert folder.describe(category) == (
    '213 train, 100 test (40 defective, 40 masks)'
  )


def test_images_for_thresholds_are_found(root):
  _touch(
    root / 'bolt/validation',
    'good/1.png',
    'good/0.webp',
    'good/.hidden.png',
    'good/notes.txt',
    'bent/2.png',
  )
  bolt, nut = folder.find_categories(root)
  assert [path.name for path in bolt.validation] == ['0.webp', '1.png']
  assert len(bolt.train) == 2
  assert len(bolt.test) == 4
  assert nut.validation == ()
  assert folder.describe(bolt) == (
    '2 train, 2 held out, 4 test (3 defective, 2 masks)'
  )


def _category(count, name='bolt', validation=0):
  train, held = (
    tuple(Path(f'{kind}/{i:04}.png') for i in range(number))
    for kind, number in (('train', count), ('validation', validation))
  )
  return folder.Category(name, train, (), held)


@given(
  st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.integers(0, 40)
)
def test_images_are_held_out_by_their_share(count, share, least):
  whole = _category(count)
  found = folder.hold_out(whole, share, least)
  held = len(found.validation)
  if share:
    # As many as are asked for, up to a quarter.
    assert held == min(max(math.floor(share * count), least), count // 4)
  else:
    assert held == 0
  assert not set(found.train) & set(found.validation)
  assert sorted(found.train + found.validation) == list(whole.train)
  assert list(found.train) == sorted(found.train)
  assert list(found.validation) == sorted(found.validation)
  assert found == folder.hold_out(whole, share, least)


@pytest.mark.parametrize(
  ('count', 'share', 'least', 'held'),
  [
    (200, 0.1, 20, 20),
    (300, 0.1, 20, 30),
    (100, 0.1, 20, 20),
    (60, 0.1, 20, 15),  # A quarter.
    (3, 0.1, 20, 0),
    (300, 0.0, 20, 0),
    (300, 0.9, 20, 75),
    (300, 0.1, 0, 30),
  ],
)
def test_how_many_are_held_out(count, share, least, held):
  found = folder.hold_out(_category(count), share, least)
  assert len(found.validation) == held
  text = f'{held} held out, ' if held else ''
  assert folder.describe(found) == (
    f'{count - held} train, {text}0 test (0 defective, 0 masks)'
  )


def test_images_are_drawn_at_random_by_the_categorys_name():
  first, second = (
    folder.hold_out(_category(400, name), 0.1, 0).validation
    for name in ('bolt', 'nut')
  )
  assert first != second
  numbers = [int(path.stem) for path in first]
  # Not the first or the last ones, nor every tenth.
  assert 120 < sum(numbers) / len(numbers) < 280
  assert len({b - a for a, b in itertools.pairwise(numbers)}) > 5


def test_nothing_is_held_out_where_there_is_a_validation_set():
  category = _category(100, validation=2)
  assert folder.hold_out(category, 0.5, 20) == category


def test_btad_calls_good_ok(tmp_path):
  root = _touch(
    tmp_path,
    '01/train/ok/0.bmp',
    '01/test/ok/1.bmp',
    '01/test/ko/2.bmp',
    '01/ground_truth/ko/2.png',
  )
  [one] = folder.find_categories(root)
  assert [path.name for path in one.train] == ['0.bmp']
  assert _names(one) == [
    ('ko', '2.bmp', '2.png', 1),
    ('good', '1.bmp', None, 0),
  ]


def test_a_folder_of_nothing_but_images_is_a_category_of_good_ones(tmp_path):
  root = _touch(tmp_path / 'parts', 'b.jpg', 'a.jpg', 'notes.txt')
  [one] = folder.find_categories(root)
  assert one.name == 'parts'
  assert [path.name for path in one.train] == ['a.jpg', 'b.jpg']
  assert not one.test


def test_several_folders_of_images_are_a_category_each(tmp_path, caplog):
  root = _touch(tmp_path, 'gasket/a.jpg', 'screw/b.jpg', 'empty/notes.txt')
  found = folder.find_categories(root)
  assert [one.name for one in found] == ['gasket', 'screw']
  assert not caplog.messages
  _touch(root, 'nut/train/good/c.jpg')  # Now they may be anything.
  assert [one.name for one in folder.find_categories(root)] == ['nut']
  [told] = caplog.messages
  assert told == (
    f'{root}/gasket has images but no train/good, and is passed over'
  )


@pytest.mark.parametrize('part', ['train', 'test', 'validation'])
def test_two_folders_of_normal_images_are_refused(root, part):
  _touch(root, f'nut/{part}/good/7.png', f'nut/{part}/ok/7.png')
  with pytest.raises(ValueError, match=f'nut/{part} holds good and ok, both'):
    folder.find_categories(root)


def test_photographs_that_cannot_be_read_are_told(tmp_path, caplog):
  root = _touch(tmp_path / 'parts', 'a.jpg', 'b.HEIC', 'c.dng')
  [one] = folder.find_categories(root)
  assert [path.name for path in one.train] == ['a.jpg']
  [told] = caplog.messages
  assert told == (
    f'{root}: 2 photographs of a kind that is not read are left out, such as '
    'b.HEIC; save them as JPEG or PNG'
  )
  (root / 'a.jpg').unlink()
  with pytest.raises(ValueError, match='parts: no images that can be read'):
    folder.find_categories(root)
  assert len(caplog.messages) == 2


def test_photographs_to_test_are_told_too(root, caplog):
  _touch(root, 'bolt/test/bent/9.heic')
  folder.find_categories(root)
  assert 'such as 9.heic' in caplog.text
