"""Finding images and masks in folders."""

from pathlib import Path

import pytest

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
