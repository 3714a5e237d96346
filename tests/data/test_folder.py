"""Finding images and masks in folders."""

import itertools
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.data import category, dataset, folder, tree


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
    (s.defect, s.path.name, [mask.name for mask in s.masks], s.label)
    for s in category.test
  ]


def test_finds_everything_sorted(root):
  bolt, nut = folder.find_categories(root)
  assert bolt.name == 'bolt'
  assert [path.name for path in bolt.train] == ['a.JPG', 'b.tiff']
  assert _names(bolt) == [
    ('bent', '0.png', ['0.bmp'], 1),
    ('bent', '1.png', [], 1),
    ('bent', '2.png', ['2_mask.png'], 1),
    ('good', '0.png', [], 0),
  ]
  assert bolt.test[0].masks == (root / 'bolt/ground_truth/bent/0.bmp',)
  assert [path.name for path in nut.train] == ['000.png', '001.png']
  assert nut.test == ()
  assert bolt.describe() == '2 train, 4 test (3 defective, 2 masks)'
  assert nut.describe() == '2 train, 0 test (0 defective, 0 masks)'


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
  'name',
  ['bolt/train/bad/0.png', 'bolt/train/good/0.txt', 'bolt/test/ok/0.png'],
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
  assert bolt.test[-1] == category.Sample(root / 'bolt/test/good/0.png', 'good')


def test_two_images_for_one_mask(root):
  _touch(root / 'bolt/test/bent', '2.jpg')
  with pytest.raises(ValueError, match=r'2_mask\.png: .* 2\.jpg, 2\.png in'):
    folder.find_categories(root)


def test_a_mask_beside_its_image(root):
  _touch(root / 'bolt/test/bent', '1_mask.png')
  bolt, _ = folder.find_categories(root)
  assert bolt.test[1].masks == (root / 'bolt/test/bent/1_mask.png',)
  assert len(bolt.test) == 4
  _touch(root / 'bolt/test/bent', '2_mask.png')
  with pytest.raises(
    ValueError, match=r'two masks, .*ground_truth/bent/2_mask'
  ):
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
  assert category.describe() == ('213 train, 100 test (40 defective, 40 masks)')


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
  assert bolt.describe() == (
    '2 train, 2 held out, 4 test (3 defective, 2 masks)'
  )


def _category(count, name='bolt', validation=0):
  train, held = (
    tuple(Path(f'{kind}/{i:04}.png') for i in range(number))
    for kind, number in (('train', count), ('validation', validation))
  )
  return category.Category(name, train, (), held)


@given(
  st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.integers(0, 40)
)
def test_images_are_held_out_by_their_share(count, share, least):
  whole = _category(count)
  found = dataset.hold_out(whole, share, least)
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
  assert found == dataset.hold_out(whole, share, least)


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
  found = dataset.hold_out(_category(count), share, least)
  assert len(found.validation) == held
  text = f'{held} held out, ' if held else ''
  assert found.describe() == (
    f'{count - held} train, {text}0 test (0 defective, 0 masks)'
  )


def test_images_are_drawn_at_random_by_the_categorys_name():
  first, second = (
    dataset.hold_out(_category(400, name), 0.1, 0).validation
    for name in ('bolt', 'nut')
  )
  assert first != second
  numbers = [int(path.stem) for path in first]
  # Not the first or the last ones, nor every tenth.
  assert 120 < sum(numbers) / len(numbers) < 280
  assert len({b - a for a, b in itertools.pairwise(numbers)}) > 5


def test_nothing_is_held_out_where_there_is_a_validation_set():
  category = _category(100, validation=2)
  assert dataset.hold_out(category, 0.5, 20) == category


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
    ('good', '1.bmp', [], 0),
    ('ko', '2.bmp', ['2.png'], 1),
  ]


def test_a_folder_of_nothing_but_images_is_a_category_of_good_ones(tmp_path):
  root = _touch(tmp_path / 'parts', 'b.jpg', 'a.jpg', 'notes.txt')
  [one] = folder.find_categories(root)
  assert one.name == 'parts'
  assert [path.name for path in one.train] == ['a.jpg', 'b.jpg']
  assert not one.test


def test_several_folders_of_images_are_a_category_each(tmp_path, caplog):
  root = _touch(tmp_path, 'gasket/a.jpg', 'screw/b.jpg', 'empty/notes.txt')
  found = folder.find(root)
  (told,) = caplog.messages
  assert told.startswith(
    f'{root}: each of gasket, screw is taken for a kind of part of its own'
  )
  assert [one.name for one in found.categories] == ['gasket', 'screw']
  assert found.left_out == {root / 'empty/notes.txt': tree.NO_IMAGE}
  _touch(root, 'nut/train/good/c.jpg')  # Now they may be anything.
  found = folder.find(root)
  assert [one.name for one in found.categories] == ['nut']
  assert found.left_out == {
    root / 'empty/notes.txt': tree.NO_IMAGE,
    root / 'gasket/a.jpg': folder.OUTSIDE,
    root / 'screw/b.jpg': folder.OUTSIDE,
  }


def _uses(found):
  """What each file is used as, by its place."""
  uses = {}
  for one in found.categories:
    uses |= dict.fromkeys(one.train, 'train')
    uses |= dict.fromkeys(one.validation, 'validation')
    for sample in one.test:
      uses[sample.path] = sample.defect
      uses |= dict.fromkeys(sample.masks, f'mask of {sample.path.stem}')
  assert not uses.keys() & found.left_out.keys()
  return uses | found.left_out


def _found(root, *names, **flags):
  """What is found where some files are, by their place below the root."""
  given = tree.Names.parse(
    *(flags.get(name, '') for name in ('normal', 'defects', 'masks'))
  )
  found = folder.find(_touch(root, *names), (), given)
  return {str(p.relative_to(root)): use for p, use in _uses(found).items()}


@pytest.mark.parametrize(
  'name', ['good', 'Good', 'OK', 'normal', 'pass', 'Good_Images', 'normal_dir']
)
def test_good_images_in_folders_of_other_names(tmp_path, name):
  found = _found(
    tmp_path / 'part',
    f'train/{name}/a.png',
    f'test/{name}/b.png',
    'test/x/c.png',
  )
  assert found == {
    f'train/{name}/a.png': 'train',
    f'test/{name}/b.png': 'good',
    'test/x/c.png': 'x',
  }


def test_a_good_folder_beside_folders_of_defects_and_masks(tmp_path):
  names = [f'OK/{i}.png' for i in range(10)]
  found = _found(
    tmp_path / 'part', *names, 'crack/7.png', 'hole/b.png', 'mask/crack/7.png'
  )
  assert found.pop('crack/7.png') == 'crack'
  assert found.pop('hole/b.png') == 'hole'
  assert found.pop('mask/crack/7.png') == 'mask of 7'
  # A fifth of the good ones is tested on, never the same in another part.
  assert sorted(found) == names
  assert sorted(found.values()) == 2 * ['good'] + 8 * ['train']
  (one,) = folder.find_categories(tmp_path / 'part')
  assert (one.name, one.drawn) == ('part', 2)


@pytest.mark.parametrize(
  'names',
  [
    ['train_good/a.png', 'test_good/b.png', 'test_defect/c.png'],
    ['good_2024/a.png', 'scratch/b.png'],
    ['negative/a.png', 'positive/b.png'],
  ],
)
def test_names_that_may_say_what_a_folder_holds_are_asked_for(tmp_path, names):
  with pytest.raises(
    ValueError, match='may be the name of what a folder holds'
  ):
    _found(tmp_path, *names)


def test_kinds_of_defects_in_one_folder_of_a_test_set(tmp_path):
  found = _found(
    tmp_path,
    'train/good/a.png',
    'test/bad/x/0.png',
    'ground_truth/bad/x/0_mask.png',
  )
  assert found['test/bad/x/0.png'] == 'x'
  assert found['ground_truth/bad/x/0_mask.png'] == 'mask of 0'


def test_masks_deeper_down_belong_to_images_deeper_down(tmp_path):
  names = [
    'train/good/a.png',
    'test/x/cam1/0.png',
    'test/x/cam2/0.png',
    'masks/x/cam2/0.png',
  ]
  root = _touch(tmp_path, *names)
  (one,) = folder.find_categories(root)
  assert [sample.masks for sample in one.test] == [
    (),
    (root / 'masks/x/cam2/0.png',),
  ]
  (root / 'test/x/cam2/0.png').unlink()
  with pytest.raises(ValueError, match='a mask without an image'):
    folder.find(root)


@pytest.mark.parametrize('link', [os.link, os.symlink])
def test_a_file_that_is_good_and_defective_is_refused(tmp_path, link):
  _touch(tmp_path, 'train/good/a.png', 'test/x/b.png')
  link(tmp_path / 'test/x/b.png', tmp_path / 'train/good/c.png')
  with pytest.raises(
    ValueError, match='are one file, good by one name and def'
  ):
    folder.find(tmp_path)


def test_two_categories_may_link_one_folder(tmp_path):
  _touch(tmp_path, 'shared/a.png')
  for name in ('x', 'y'):
    (tmp_path / 'root' / name / 'train').mkdir(parents=True)
    (tmp_path / 'root' / name / 'train/good').symlink_to(tmp_path / 'shared')
  found = folder.find_categories(tmp_path / 'root')
  assert [(one.name, len(one.train)) for one in found] == [('x', 1), ('y', 1)]


def test_a_category_is_known_by_either_unicode_form(tmp_path):
  _touch(tmp_path, 'Geha\u0308use/train/good/a.png')
  (one,) = folder.find_categories(tmp_path, ['Geh\u00e4use'])
  assert one.name == 'Geha\u0308use'


def test_good_and_bad_folders_that_are_split_themselves(tmp_path):
  found = _found(tmp_path / 'part', 'good/train/a.png', 'bad/train/b.png')
  assert found['good/train/a.png'] == 'train'
  assert found['bad/train/b.png'] == 'bad'


def test_a_category_may_have_any_name(tmp_path):
  names = ['bad/train/good/a.png', 'ok/train/good/b.png', 'x/train/good/c.png']
  found = folder.find_categories(_touch(tmp_path, *names))
  assert [one.name for one in found] == ['bad', 'ok', 'x']


def test_good_images_alone_in_a_folder_called_good_are_all_trained_on(tmp_path):
  assert _found(tmp_path / 'part', 'good/a.png', 'good/day/b.png') == {
    'good/a.png': 'train',
    'good/day/b.png': 'train',
  }


@pytest.mark.parametrize('name', ['bad', 'NG', 'defects', 'abnormal_dir'])
def test_loose_images_beside_a_bad_folder_are_good(tmp_path, name):
  assert _found(tmp_path / 'part', 'a.png', f'{name}/b.png') == {
    'a.png': 'train',
    f'{name}/b.png': name,
  }


def test_kinds_of_defects_in_one_folder(tmp_path):
  found = _found(tmp_path / 'p', 'good/a.png', 'bad/x/b.png', 'bad/y/c.png')
  assert found['bad/x/b.png'] == 'x'
  assert found['bad/y/c.png'] == 'y'


@pytest.mark.parametrize(
  ('names', 'flags'),
  [
    (['a.png', 'crack/b.png'], 'folder.*normal=NAME and --config.data.defects'),
    (['bad/a.png', 'new/b.png'], 'bad holds defects, but no folder beside'),
    (
      ['train/a/0.png', 'train/b/1.png'],
      'no folder called good; say what a, b',
    ),
    (['train/good/0.png', 'val/a/1.png'], 'say what a in it holds'),
    (['train/a.png', 'train/x/b.png'], 'no folder called good; say what x'),
  ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path, names, flags):
  with pytest.raises(ValueError, match=flags):
    _found(tmp_path, *names)


@pytest.mark.parametrize(
  ('names', 'flags', 'expected'),
  [
    (['a.png', 'crack/b.png'], {'defects': 'crack'}, ['train', 'crack']),
    (['x/a.png', 'y/b.png'], {'normal': 'x'}, ['train', 'y']),
    (
      ['x/a.png', 'y/b.png', 'z/c.png'],
      {'normal': 'x', 'defects': 'y'},
      ['train', 'y', folder.OUTSIDE],
    ),
    (
      ['train/gut/a.png', 'test/gut/b.png', 'test/y/c.png', 'wo/y/c.png'],
      {'normal': 'gut', 'masks': 'wo'},
      ['train', 'good', 'y', 'mask of c'],
    ),
    (
      ['x/one/a.png', 'x/two/b.png', 'y/one/c.png'],
      {'normal': 'x'},
      ['train', 'train', 'y'],
    ),
    (['k/x/a.png', 'k/y/b.png'], {'normal': 'k/x'}, ['train', 'y']),
  ],
)
def test_flags_name_folders(tmp_path, names, flags, expected):
  assert _found(tmp_path, *names, **flags) == dict(
    zip(names, expected, strict=True)
  )


def test_a_flag_that_names_no_folder(tmp_path):
  with pytest.raises(ValueError, match='no folder in it is called gud, which'):
    _found(tmp_path, 'good/a.png', normal='gud')


def test_images_that_lie_where_none_are_looked_for(tmp_path):
  found = _found(
    tmp_path / 'part',
    'train/good/a.png',
    'train/good/bad/b.png',
    'train/bad/c.png',
    'train/d.png',
    'val/good/e.png',
    'val/bad/f.png',
    'test/x/g.png',
    'test/x/good/h.png',
    'notes/i.png',
    'j.png',
  )
  used = {name for name, use in found.items() if use != folder.OUTSIDE}
  assert used == {'train/good/a.png', 'val/good/e.png', 'test/x/g.png'}


def test_folders_below_are_read(tmp_path):
  assert _found(
    tmp_path,
    'train/good/monday/a.png',
    'val/b.png',
    'test/x/monday/c.png',
    'ground_truth/x/monday/c_mask.png',
    'test/x/tuesday/d.png',
    'ground_truth/x/d.png',
  ) == {
    'train/good/monday/a.png': 'train',
    'val/b.png': 'validation',
    'test/x/monday/c.png': 'x',
    'ground_truth/x/monday/c_mask.png': 'mask of c',
    'test/x/tuesday/d.png': 'x',
    'ground_truth/x/d.png': 'mask of d',
  }


@pytest.mark.parametrize(
  'masks',
  [
    ['ground_truth/x/0_mask.png', 'ground_truth/x/1_mask.png'],
    ['masks/X/0.png', 'masks/x/1.bmp'],
    ['mask/0.png', 'mask/1_mask.png'],
    ['Ground Truth/x/0/000.png', 'Ground Truth/x/1/000.png'],
    ['masks/0/000.png', 'masks/1/000.png'],
    ['masks/test/x/0.png', 'masks/test/x/1.png'],
    ['test/masks/x/0.png', 'test/masks/x/1.png'],
    ['test/x/masks/0.png', 'test/x/masks/1.png'],
    ['test/x/0_mask.png', 'test/x/1_mask.png'],
    ['labels/x/0.png', 'x_masks/1.png'],
    ['masks/bad/x/0.png', 'ground_truth/bad/x/1_mask.png'],
  ],
)
def test_where_masks_can_lie(tmp_path, masks):
  images = ['train/good/a.png', 'test/x/0.png', 'test/x/1.png']
  found = _found(tmp_path, *images, *masks)
  assert [found[mask] for mask in masks] == ['mask of 0', 'mask of 1']


def test_all_masks_in_a_folder_of_an_images_name_count(tmp_path):
  root = _touch(
    tmp_path,
    'train/good/a.png',
    'test/x/0.png',
    'ground_truth/x/0/000.png',
    'ground_truth/x/0/001.png',
  )
  (one,) = folder.find_categories(root)
  assert [mask.name for mask in one.test[0].masks] == ['000.png', '001.png']


def test_unicode_forms_of_a_name_are_one_name(tmp_path):
  composed, decomposed = 'Riß_\u00fc', 'Riß_u\u0308'
  found = _found(
    tmp_path,
    'train/good/a.png',
    f'test/{composed}/{decomposed}.png',
    f'masks/{decomposed}/{composed}_mask.png',
  )
  assert found[f'masks/{decomposed}/{composed}_mask.png'] == (
    f'mask of {decomposed}'
  )


def test_masks_of_good_images_and_of_such_as_are_left_out(tmp_path):
  found = _found(
    tmp_path,
    'train/good/a.png',
    'test/good/b.png',
    'test/x/c.heic',
    'masks/good/b.png',
    'masks/x/c.png',
    'masks/b_mask.png',
  )
  assert found['test/x/c.heic'] == tree.UNREAD
  masks = [use for name, use in found.items() if name.startswith('masks')]
  assert masks == 3 * [category.UNUSED_MASK]


def test_files_that_are_no_images_have_a_reason(tmp_path):
  root = tmp_path / 'part'
  found = _found(
    root,
    'train/good/a.png',
    'train/good/b.heic',
    'train/good/c.pdf',
    'train/good/d',
    'train/good/Thumbs.db',
    'train/good/@eaDir/a.png/SYNO.png',
    '__MACOSX/._a.png',
  )
  (root / 'train/good/e.png').symlink_to(root / 'none.png')
  os.mkfifo(root / 'train/good/f.png')
  found = _found(root)
  assert found == {
    'train/good/a.png': 'train',
    'train/good/b.heic': tree.UNREAD,
    'train/good/c.pdf': tree.NO_IMAGE,
    'train/good/d': tree.NO_IMAGE,
    'train/good/e.png': tree.NOTHING,
    'train/good/f.png': tree.NO_FILE,
    'train/good/Thumbs.db': tree.HIDDEN,
    'train/good/@eaDir/a.png/SYNO.png': tree.HIDDEN,
    '__MACOSX/._a.png': tree.HIDDEN,
  }


def test_masks_beside_good_images_are_not_trained_on(tmp_path):
  names = ['a.png', 'a_mask.png', 'b_mask.png']
  assert _found(tmp_path, *names) == {
    'a.png': 'train',
    'a_mask.png': category.UNUSED_MASK,
    'b_mask.png': 'train',
  }


def test_photographs_that_are_not_read_are_named_where_there_is_nothing_else(
  tmp_path,
):
  _touch(tmp_path, 'IMG_1.HEIC', 'IMG_2.heic')
  with pytest.raises(ValueError, match=r'no categories.* it holds 2, such as'):
    folder.find(tmp_path)


@pytest.mark.parametrize(
  ('name', 'form'),
  [
    ('a.jfif', 'JPEG'),
    ('a.jpe', 'JPEG'),
    ('a.ppm', 'PPM'),
    ('a.gif', 'GIF'),
    ('a.dat', 'PNG'),
    ('a', 'BMP'),
  ],
)
def test_images_are_known_by_their_content(tmp_path, name, form):
  root = _touch(tmp_path, 'good/b.png')
  Image.new('RGB', (8, 8)).save(root / 'good' / name, form)
  assert _found(root)[f'good/{name}'] == 'train'


def test_a_file_of_two_names_is_used_once(tmp_path):
  root = _touch(tmp_path, 'train/good/a.png', 'train/good/b.png')
  (root / 'val').mkdir()
  (root / 'val/c.png').symlink_to(root / 'train/good/a.png')
  (root / 'test').symlink_to(root / 'train')
  found = _found(root)
  assert found == {
    'train/good/a.png': 'train',
    'train/good/b.png': 'train',
    'val/c.png': tree.TWICE,
    'test/good/a.png': tree.TWICE,
    'test/good/b.png': tree.TWICE,
  }


def test_a_linked_root_keeps_the_name_that_was_given(tmp_path):
  root = _touch(tmp_path / '2026-11-29T08', 'good/a.png')
  (tmp_path / 'valve').symlink_to(root)
  (one,) = folder.find_categories(tmp_path / 'valve')
  assert one.name == 'valve'
