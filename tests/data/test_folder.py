"""Finding images and masks in folders."""

import itertools
import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.data import category, folder, tree
from tests.data.test_files import touch


@pytest.fixture
def root(tmp_path):
  """Two categories, one of them with defects, and litter."""
  return touch(
    tmp_path,
    *('nut/train/good/001.png', 'nut/train/good/000.png'),
    *('bolt/train/good/a.JPG', 'bolt/train/good/b.tiff'),
    *('bolt/train/good/.hidden.png', 'bolt/train/good/Thumbs.db'),
    *('bolt/train/good/notes.txt', 'bolt/test/good/0.png'),
    *('bolt/test/bent/0.png', 'bolt/test/bent/1.png', 'bolt/test/bent/2.png'),
    *('bolt/test/.DS_Store/0.png', 'bolt/ground_truth/bent/2_mask.png'),
    *('bolt/ground_truth/bent/0.bmp', 'bolt/readme.txt', 'license.txt'),
    *('results/0.png', '.cache/train/good/0.png'),
  )


def _categories(root, *chosen):
  return folder.find(root, chosen).categories


def _found(root, *names, **flags):
  """What is found where some files are, by their place below the root."""
  words = (flags.get(name, '') for name in ('normal', 'defects', 'masks'))
  found = folder.find(touch(root, *names), (), tree.parse_names(*words))
  uses = {}
  for one in found.categories:
    uses |= dict.fromkeys(one.train, 'train')
    uses |= dict.fromkeys(one.validation, 'validation')
    for sample in one.test:
      uses[sample.path] = sample.defect
      uses |= dict.fromkeys(sample.masks, f'mask of {sample.path.stem}')
  assert not uses.keys() & found.left_out.keys()
  uses |= found.left_out
  return {path.relative_to(root).as_posix(): use for path, use in uses.items()}


def test_finds_everything_sorted(root):
  bolt, nut = _categories(root)
  assert bolt.name == 'bolt'
  assert [path.name for path in bolt.train] == ['a.JPG', 'b.tiff']
  assert [
    (s.defect, s.path.name, [mask.name for mask in s.masks], s.label)
    for s in bolt.test
  ] == [
    ('bent', '0.png', ['0.bmp'], 1),
    ('bent', '1.png', [], 1),
    ('bent', '2.png', ['2_mask.png'], 1),
    ('good', '0.png', [], 0),
  ]
  assert [path.name for path in nut.train] == ['000.png', '001.png']
  assert nut.test == ()
  assert bolt.describe() == '2 train, 4 test (3 defective, 2 masks)'
  assert nut.describe() == '2 train, 0 test (0 defective, 0 masks)'


def test_names_choose_and_never_leave_the_root(root):
  assert [one.name for one in _categories(root, 'nut')] == ['nut']
  with pytest.raises(ValueError, match=r'no category gear; .* bolt, nut'):
    _categories(root, 'nut', 'gear')
  with pytest.raises(ValueError, match=r'no category \.\./nut'):
    _categories(root / 'bolt', '../nut')


def test_a_root_that_is_a_category(root, tmp_path, monkeypatch):
  (bolt,) = _categories(root / 'bolt')
  assert (bolt,) == _categories(root, 'bolt') == _categories(f'{root}/bolt')
  (root / 'linked').symlink_to(root / 'nut')
  assert _categories(root / 'linked')[0].name == 'linked'
  monkeypatch.chdir(root / 'nut')
  assert _categories('.')[0].name == 'nut'


def test_a_category_is_known_by_either_unicode_form(tmp_path):
  touch(tmp_path, 'Geha\u0308use/train/good/a.png')
  assert _categories(tmp_path, 'Geh\u00e4use')[0].name == 'Geha\u0308use'


def test_mvtec(shared):
  (one,) = _categories(shared('data/transistor'))
  assert one.name == 'transistor'
  assert one.describe() == '213 train, 100 test (40 defective, 40 masks)'


def test_symlink_cycles_are_harmless(root):
  expected = _categories(root)
  for link, target in (
    ('loop', root),
    ('bolt/test/bent/up', root),
    ('bolt/test/self.png', 'self.png'),
    ('self', 'self'),
  ):
    (root / link).symlink_to(target)
  assert _categories(root) == expected


def test_two_categories_may_link_one_folder(tmp_path):
  touch(tmp_path, 'shared/a.png')
  for name in ('x', 'y'):
    (tmp_path / 'root' / name / 'train').mkdir(parents=True)
    (tmp_path / 'root' / name / 'train/good').symlink_to(tmp_path / 'shared')
  found = _categories(tmp_path / 'root')
  assert [(one.name, len(one.train)) for one in found] == [('x', 1), ('y', 1)]


def test_a_file_of_two_names_is_used_once(tmp_path):
  root = touch(tmp_path, 'train/good/a.png', 'train/good/b.png')
  (root / 'val').mkdir()
  (root / 'val/c.png').symlink_to(root / 'train/good/a.png')
  (root / 'test').symlink_to(root / 'train')
  assert _found(root) == {
    'train/good/a.png': 'train',
    'train/good/b.png': 'train',
    'val/c.png': tree.TWICE,
    'test/good/a.png': tree.TWICE,
    'test/good/b.png': tree.TWICE,
  }


@pytest.mark.parametrize('link', [os.link, os.symlink])
def test_a_file_that_is_good_and_defective_is_refused(tmp_path, link):
  touch(tmp_path, 'train/good/a.png', 'test/x/b.png')
  link(tmp_path / 'test/x/b.png', tmp_path / 'train/good/c.png')
  with pytest.raises(
    ValueError, match='are one file, good by one name and def'
  ):
    folder.find(tmp_path)


# The use of each file, a PNG where there is no suffix; masks have ~image.
# Names of layouts have the flags.
LAYOUTS = {
  'BTAD': """
    train/ok/0=train test/ok/1=good test/ko/2=ko ground_truth/ko/2=~2""",
  'other names': """
    train/Good_Images/a=train test/normal_dir/b=good test/x/c=x""",
  'nothing but images': 'b=train a=train',
  'nothing but good images': 'good/a=train good/day/b=train',
  'loose images beside bad ones': 'a=train NG/b=NG',
  'split by good and bad': 'good/train/a=train bad/train/b=bad',
  'kinds in a folder': 'good/a=train bad/x/b=x bad/y/c=y',
  'kinds in a folder of a test set': """
    train/good/a=train test/bad/x/0=x ground_truth/bad/x/0_mask=~0""",
  'folders below': """
    train/good/monday/a=train val/b=validation
    test/x/monday/c=x ground_truth/x/monday/c_mask=~c
    test/x/tuesday/d=x ground_truth/x/d=~d""",
  'masks of good and lost images': """
    train/good/a=train test/good/b=good test/x/c.heic=UNREAD
    masks/good/b=UNUSED masks/x/c=UNUSED masks/b_mask=UNUSED""",
  'masks beside good images': 'a=train a_mask=UNUSED b_mask=train',
  'where none are looked for': """
    train/good/a=train val/good/e=validation test/x/g=x
    train/good/bad/b=OUTSIDE train/bad/c=OUTSIDE train/d=OUTSIDE
    val/bad/f=OUTSIDE test/x/good/h=OUTSIDE notes/i=OUTSIDE j=OUTSIDE""",
  'defects=crack': 'a=train crack/b=crack',
  'normal=x': 'x/a=train y/b=y',
  'normal=x defects=y': 'x/a=train y/b=y z/c=OUTSIDE',
  'normal=gut masks=wo': """
    train/gut/a=train test/gut/b=good test/y/c=y wo/y/c=~c""",
  'normal=k/x': 'k/x/a=train k/y/b=y',
}
REASONS = {
  'UNREAD': tree.UNREAD,
  'UNUSED': folder.UNUSED_MASK,
  'OUTSIDE': folder.OUTSIDE,
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(tmp_path, layout):
  expected = {}
  for line in LAYOUTS[layout].split():
    name, use = line.split('=')
    name = name if Path(name).suffix else f'{name}.png'
    expected[name] = REASONS.get(use, use.replace('~', 'mask of '))
  flags = dict(re.findall('(normal|defects|masks)=(\\S+)', layout))
  assert _found(tmp_path / 'part', *expected, **flags) == expected


def test_a_fifth_of_good_images_beside_defects_is_tested_on(tmp_path):
  names = [f'OK/{i}.png' for i in range(10)]
  found = _found(
    tmp_path / 'part', *names, 'crack/7.png', 'hole/b.png', 'mask/crack/7.png'
  )
  assert found.pop('crack/7.png') == 'crack'
  assert found.pop('hole/b.png') == 'hole'
  assert found.pop('mask/crack/7.png') == 'mask of 7'
  assert sorted(found) == names
  assert sorted(found.values()) == 2 * ['good'] + 8 * ['train']
  (one,) = _categories(tmp_path / 'part')
  assert (one.name, one.drawn) == ('part', 2)


def test_several_folders_of_images_are_a_category_each(tmp_path, caplog):
  root = touch(tmp_path, 'gasket/a.jpg', 'screw/b.jpg', 'empty/notes.txt')
  assert [one.name for one in _categories(root)] == ['gasket', 'screw']
  assert caplog.messages[0].startswith(
    f'{root}: each of gasket, screw is taken for a kind of part '
  )
  # Beside a category they may be anything.
  assert _found(root, 'nut/train/good/c.jpg') == {
    'nut/train/good/c.jpg': 'train',
    'empty/notes.txt': tree.NO_IMAGE,
    'gasket/a.jpg': folder.OUTSIDE,
    'screw/b.jpg': folder.OUTSIDE,
  }


def test_a_category_may_have_any_name(tmp_path):
  names = ['bad/train/good/a.png', 'ok/train/good/b.png', 'x/train/good/c.png']
  found = _categories(touch(tmp_path, *names))
  assert [one.name for one in found] == ['bad', 'ok', 'x']


MAY_BE = 'may be the name of what a folder holds'
REFUSED = [
  ([], r'no categories; expected .*train/good'),
  (['IMG_1.HEIC', 'IMG_2.heic'], 'no categories.* it holds 2 of a kind of'),
  (['train_good/a.png', 'test_good/b.png', 'test_defect/c.png'], MAY_BE),
  (['good_2024/a.png', 'scratch/b.png'], MAY_BE),
  (['negative/a.png', 'positive/b.png'], MAY_BE),
  (['a.png', 'crack/b.png'], 'folder.*normal=NAME and --config.data.defects'),
  (['bad/a.png', 'new/b.png'], 'bad holds defects, but no folder beside'),
  (['train/a/0.png', 'train/b/1.png'], 'no folder called good; say what a, b'),
  (['train/good/0.png', 'val/a/1.png'], 'say what a in it holds'),
  (['train/a.png', 'train/x/b.png'], 'no folder called good; say what x'),
  (['train/good/0.png', 'test/7.png'], r'7\.png: belongs in test.good'),
  (['train/a.png', 'training/a.png'], 'all names of the images for train'),
  (['good/a.png', 'bad/x/b.png', 'x/c.png'], 'images is called x; rename one'),
  (['n/train/good/0.png', 'b/train/bad/0.png'], 'b: no training images'),
  (['n/train/good/0.png', 'b/train/good/0.txt'], 'b: no training images'),
  (['n/train/good/0.png', 'b/test/ok/0.png'], 'b: no training images'),
]


@pytest.mark.parametrize(('names', 'message'), REFUSED)
def test_what_cannot_be_told_apart_is_refused(tmp_path, names, message):
  with pytest.raises(ValueError, match=message):
    _found(tmp_path, *names)


def test_roots_and_names_that_are_not_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='none: no such folder'):
    _categories(tmp_path / 'none')
  with pytest.raises(ValueError, match='no folder in it is called gud, which'):
    _found(tmp_path, 'good/a.png', normal='gud')


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


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    (['ground_truth/bent/9_mask.png'], 'bent/9_mask.png: a mask without an im'),
    (['ground_truth/worn/0_mask.png'], 'worn/0_mask.png: a mask without an im'),
    (['test/bent/2.jpg'], r'2_mask\.png: .* 2\.jpg, 2\.png; rename'),
    (['ground_truth/bent/2.png'], r'two masks, .*2\.png and .*2_mask\.png'),
    (['test/bent/2_mask.png'], r'two masks, .*ground_truth/bent/2_mask'),
  ],
)
def test_masks_that_fit_no_image_or_several(root, names, message):
  with pytest.raises(ValueError, match=message):
    _found(root / 'bolt', *names)


def test_masks_deeper_down_belong_to_images_deeper_down(tmp_path):
  names = ['train/good/a.png', 'test/x/cam1/0.png', 'test/x/cam2/0.png']
  mask = tmp_path / 'masks/x/cam2/0.png'
  (one,) = _categories(touch(tmp_path, *names, 'masks/x/cam2/0.png'))
  assert [sample.masks for sample in one.test] == [(), (mask,)]
  (tmp_path / 'test/x/cam2/0.png').unlink()
  with pytest.raises(ValueError, match='a mask without an image'):
    folder.find(tmp_path)


def test_all_masks_in_a_folder_of_an_images_name_count(tmp_path):
  masks = ['ground_truth/x/0/000.png', 'ground_truth/x/0/001.png']
  (one,) = _categories(
    touch(tmp_path, 'train/good/a.png', 'test/x/0.png', *masks)
  )
  assert [mask.name for mask in one.test[0].masks] == ['000.png', '001.png']


def test_unicode_forms_of_a_name_are_one_name(tmp_path):
  composed, decomposed = 'Riß_\u00fc', 'Riß_u\u0308'
  mask = f'masks/{decomposed}/{composed}_mask.png'
  image = f'test/{composed}/{decomposed}.png'
  found = _found(tmp_path, 'train/good/a.png', image, mask)
  assert found[mask] == f'mask of {decomposed}'


def test_files_that_are_no_images_have_a_reason(tmp_path):
  root = tmp_path / 'part'
  expected = {
    'train/good/a.png': 'train',
    'train/good/b.heic': tree.UNREAD,
    'train/good/c.pdf': tree.NO_IMAGE,
    'train/good/d': tree.NO_IMAGE,
    'train/good/Thumbs.db': tree.HIDDEN,
    'train/good/@eaDir/a.png/SYNO.png': tree.HIDDEN_IMAGE,
    '__MACOSX/._a.png': tree.HIDDEN_IMAGE,
  }
  touch(root, *expected)
  (root / 'train/good/e.png').symlink_to(root / 'none.png')
  os.mkfifo(root / 'train/good/f.png')
  links = {'train/good/e.png': tree.NOTHING, 'train/good/f.png': tree.NO_FILE}
  assert _found(root) == expected | links


@pytest.mark.parametrize(
  ('name', 'form'),
  [('a.jfif', 'JPEG'), ('a.ppm', 'PPM'), ('a.gif', 'GIF'), ('a', 'BMP')],
)
def test_images_are_known_by_their_content(tmp_path, name, form):
  root = touch(tmp_path, 'good/b.png')
  Image.new('RGB', (8, 8)).save(root / 'good' / name, form)
  assert _found(root)[f'good/{name}'] == 'train'


def _made(count, name='bolt', validation=0):
  train, held = (
    tuple(Path(f'{kind}/{i:04}.png') for i in range(number))
    for kind, number in (('train', count), ('validation', validation))
  )
  return category.Category(name, train, (), held)


@given(
  st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.integers(0, 40)
)
def test_images_are_held_out_by_their_share(count, share, least):
  whole = _made(count)
  found = category.hold_out(whole, share, least)
  # As many as are asked for, up to a quarter.
  held = min(max(math.floor(share * count), least), count // 4) * bool(share)
  assert len(found.validation) == held
  text = f'{held} held out, ' if held else ''
  assert found.describe().startswith(f'{count - held} train, {text}0 test')
  assert sorted(found.train + found.validation) == list(whole.train)
  assert list(found.train) == sorted(found.train)
  assert list(found.validation) == sorted(found.validation)
  assert found == category.hold_out(whole, share, least)


def test_images_are_drawn_at_random_by_the_categorys_name():
  first, second = (
    category.hold_out(_made(400, name), 0.1, 0).validation
    for name in ('bolt', 'nut')
  )
  assert first != second
  numbers = [int(path.stem) for path in first]
  # Not the first or the last ones, nor every tenth.
  assert 120 < sum(numbers) / len(numbers) < 280
  assert len({b - a for a, b in itertools.pairwise(numbers)}) > 5


def test_nothing_is_held_out_where_there_is_a_validation_set():
  whole = _made(100, validation=2)
  assert category.hold_out(whole, 0.5, 20) == whole
