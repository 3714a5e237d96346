"""Finding images and masks in folders."""

import os
import re

import pytest
from PIL import Image

from simplenet_jax.data import folder, tree
from tests.data.test_files import touch


@pytest.fixture
def root(tmp_path):
  return touch(
    tmp_path,
    *('nut/train/good/001.png', 'nut/train/good/000.png', 'results/0.png'),
    *('bolt/train/good/a.JPG', 'bolt/train/good/b.tiff', 'bolt/readme.txt'),
    *('bolt/test/bent/2.png', 'bolt/test/bent/1.png', 'bolt/test/bent/0.png'),
    *('bolt/test/good/0.png', '.cache/train/good/0.png'),
  )


def _categories(root, *chosen):
  return folder.find(root, chosen).categories


def found_in(root, *names, **flags):
  """What is found where some files are, by their place below the root."""
  words = (flags.get(name, '') for name in ('normal', 'defects', 'masks'))
  found = folder.find(touch(root, *names), (), tree.parse_names(*words))
  files = [file for one in found.categories for file in one.files()]
  assert len({*files, *found.left_out}) == len(files) + len(found.left_out)
  uses = {}
  for one in found.categories:
    assert list(one.train) == sorted(one.train)
    assert list(one.test) == sorted(one.test, key=lambda s: (s.defect, s.path))
    uses |= dict.fromkeys(one.train, 'train')
    uses |= dict.fromkeys(one.validation, 'validation')
    for sample in one.test:
      uses[sample.path] = sample.defect
      uses |= dict.fromkeys(sample.masks, f'mask of {sample.path.stem}')
      assert sample.label or not sample.masks
  uses |= found.left_out
  return {path.relative_to(root).as_posix(): use for path, use in uses.items()}


def test_names_choose_and_never_leave_the_root(root, tmp_path, monkeypatch):
  assert [one.name for one in _categories(root, 'nut')] == ['nut']
  with pytest.raises(ValueError, match=r'has no gear; .* bolt, nut'):
    _categories(root, 'nut', 'gear')
  with pytest.raises(ValueError, match=r'has no \.\./nut'):
    _categories(root / 'bolt', '../nut')
  # A root can be that of a category.
  assert _categories(root / 'bolt') == _categories(root, 'bolt')
  (root / 'linked').symlink_to(root / 'nut')
  assert _categories(root / 'linked')[0].name == 'linked'
  monkeypatch.chdir(root / 'nut')
  assert _categories('.')[0].name == 'nut'
  # Either Unicode form of a name will do.
  touch(tmp_path, 'Geha\u0308use/train/good/a.png')
  assert _categories(tmp_path, 'Geh\u00e4use')[0].name == 'Geha\u0308use'


def test_mvtec(shared):
  (one,) = _categories(shared('data/transistor'))
  assert one.describe() == '213 train, 100 test (40 defective, 40 masks)'


def test_two_categories_may_share_a_folder(root):
  (root / 'copy').mkdir()
  (root / 'copy/train').symlink_to(root / 'nut/train')
  found = _categories(root)
  assert [(one.name, len(one.train)) for one in found] == [
    *(('bolt', 2), ('copy', 2), ('nut', 2))
  ]


def test_links_are_not_followed_on_every_way_there_is(tmp_path):
  root = touch(tmp_path, 'good/a.png', 'x/9/b.png')
  for number in range(9):
    (root / f'x/{number}').mkdir()
    for name in 'cd':
      (root / f'x/{number}' / name).symlink_to(f'../{number + 1}')
  whole, left_out = tree.read(root)
  # Of 2**10 ways to b.png, one by each link that lies below none, and its own.
  assert len(whole.all_images()) == 1 + 2 * 9 + 1
  assert {*left_out.values()} == {tree.LOOP}


def test_a_file_of_two_names_is_used_once(tmp_path):
  root = touch(tmp_path, 'train/good/a.png', 'train/good/b.png')
  (root / 'val').mkdir()
  (root / 'val/c.png').symlink_to(root / 'train/good/a.png')
  (root / 'test').symlink_to(root / 'train')
  assert found_in(root) == {
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
  with pytest.raises(ValueError, match='one file, but only one is good'):
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
  'masks of one of two images of a name': """
    train/good/a=train test/x/cam1/0=x test/x/cam2/0=x masks/x/cam2/0=~0""",
  'several masks of an image': """
    train/good/a=train test/x/0=x gt/x/0/000=~0 gt/x/0/001=~0""",
  'two Unicode forms': """
    train/good/a=train test/Riß_\u00fc/u\u0308=Riß_\u00fc
    masks/Riß_u\u0308/\u00fc_mask=~u\u0308""",
  'masks of good and lost images': """
    train/good/a=train test/good/b=good test/x/c.heic=UNREAD
    masks/good/b=UNUSED masks/x/c=UNUSED masks/b_mask=UNUSED""",
  'masks beside good images': 'a=train a_mask=UNUSED b_mask=train',
  'where none are looked for': """
    train/good/a=train val/good/e=validation test/x/g=x
    train/good/bad/b=OUTSIDE train/bad/c=OUTSIDE train/d=OUTSIDE
    val/bad/f=OUTSIDE test/x/good/h=OUTSIDE notes/i=OUTSIDE j=OUTSIDE""",
  'what is no image': """
    good/b.png=train good/b.heic=UNREAD good/c.pdf=NO_IMAGE good/d.=NO_IMAGE
    good/e.gif=UNREAD good/f.eps=UNREAD
    good/Thumbs.db=HIDDEN @eaDir/a.png=HIDDEN_IMAGE ._a.png=HIDDEN_IMAGE""",
  'defects=crack': 'a=train crack/b=crack',
  'normal=x': 'x/a=train y/b=y',
  'normal=x defects=y': 'x/a=train y/b=y z/c=OUTSIDE',
  'normal=gut masks=wo': """
    train/gut/a=train test/gut/b=good test/y/c=y wo/y/c=~c""",
  'normal=k/x': 'k/x/a=train k/y/b=y',
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(tmp_path, layout):
  expected = {}
  for line in LAYOUTS[layout].split():
    name, use = line.split('=')
    name = name if '.' in name else f'{name}.png'
    use = {'UNUSED': 'UNUSED_MASK'}.get(use, use)
    reason = getattr(tree, use, None) or getattr(folder, use, None)
    expected[name] = reason or use.replace('~', 'mask of ')
  flags = dict(re.findall('(normal|defects|masks)=(\\S+)', layout))
  assert found_in(tmp_path / 'part', *expected, **flags) == expected


def test_links_and_pipes_are_no_images_and_others_are_known_by_content(
  tmp_path,
):
  root = touch(tmp_path, 'good/a.png')
  (root / 'good/e.png').symlink_to(root / 'none.png')
  os.mkfifo(root / 'good/f.png')
  expected = {'a.png': 'train', 'e.png': tree.NOTHING, 'f.png': tree.NO_FILE}
  forms = {'a.jfif': 'JPEG', 'a.ppm': 'PPM', 'a.gif': 'GIF', 'a': 'BMP'}
  for name, form in forms.items():
    Image.new('RGB', (8, 8)).save(root / 'good' / name, form)
  expected |= dict.fromkeys(forms, 'train')
  assert found_in(root) == {
    f'good/{name}': why for name, why in expected.items()
  }


def test_a_fifth_of_good_images_beside_defects_is_tested_on(tmp_path):
  names = [f'OK/{i}.png' for i in range(10)]
  found = found_in(
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
  # Beside a category, which may have any name, they may be anything.
  assert found_in(root, 'bad/train/good/c.jpg') == {
    'bad/train/good/c.jpg': 'train',
    'empty/notes.txt': tree.NO_IMAGE,
    'gasket/a.jpg': folder.OUTSIDE,
    'screw/b.jpg': folder.OUTSIDE,
  }


MAY_BE = 'may be the name of what a folder holds'
REFUSED = [
  ('', r'no categories; expected .*train/good'),
  ('IMG_1.HEIC IMG_2.heic', 'no categories.* it holds 2 of a kind of'),
  ('train_good/a.png test_good/b.png test_defect/c.png', MAY_BE),
  ('good_2024/a.png scratch/b.png', MAY_BE),
  ('negative/a.png positive/b.png', MAY_BE),
  (
    'a.png crack/b.png',
    'say what these hold with --config.data.normal=NAME, --c',
  ),
  ('bad/a.png new/b.png', 'bad holds defects, but no folder beside'),
  ('train/a/0.png train/b/1.png', 'no folder called good; say what a, b'),
  ('train/good/0.png val/a/1.png', 'say what a holds'),
  ('train/good/0.png test/7.png', r'7\.png: belongs in test/good'),
  ('train/a.png training/a.png', 'train and training mean train'),
  ('good/a.png bad/x/b.png x/c.png', 'x: another folder of test images is'),
  ('n/train/good/0.png b/train/bad/0.png', 'b: no training images'),
  ('n/train/good/0.png b/train/good/0.txt', 'b: no training images'),
  ('n/train/good/0.png b/test/ok/0.png', 'b: no training images'),
  ('train/g/a.png test/x/0.png masks/x/9_mask.png', '9_mask.png: a mask witho'),
  ('train/g/a.png test/x/0.png masks/y/0.png', 'y/0.png: a mask without an im'),
  ('train/g/a.png test/x/c/0.png masks/x/d/0.png', 'a mask without an image'),
  ('train/g/a.png test/x/2.jpg test/x/2.png masks/x/2.png', r'to 2\.jpg, 2\.p'),
  ('train/g/a.png test/x/2.png gt/x/2.png gt/x/2_mask.png', 'two masks, .*2_m'),
  ('train/g/a.png test/x/2.png gt/x/2.png test/x/2_mask.png', 'two masks'),
]


@pytest.mark.parametrize(('names', 'message'), REFUSED)
def test_what_cannot_be_told_apart_is_refused(tmp_path, names, message):
  names = names.replace('train/g/', 'train/good/').split()
  with pytest.raises(ValueError, match=message):
    found_in(tmp_path, *names)


def test_a_name_that_no_folder_has_is_refused(tmp_path):
  with pytest.raises(ValueError, match='no folder in it is called gud, which'):
    found_in(tmp_path, 'good/a.png', normal='gud')


@pytest.mark.parametrize(
  'masks',
  [
    'ground_truth/x/0_mask.png ground_truth/x/1_mask.png',
    'masks/X/0.png masks/x/1.bmp',
    'mask/0.png mask/1_mask.png',
    'Ground_Truth/x/0/000.png Ground_Truth/x/1/000.png',
    'masks/0/000.png masks/1/000.png',
    'masks/test/x/0.png masks/test/x/1.png',
    'test/masks/x/0.png test/masks/x/1.png',
    'test/x/masks/0.png test/x/masks/1.png',
    'test/x/0_mask.png test/x/1_mask.png',
    'labels/x/0.png x_masks/1.png',
    'masks/bad/x/0.png ground_truth/bad/x/1_mask.png',
  ],
)
def test_where_masks_can_lie(tmp_path, masks):
  masks = masks.split()
  images = ['train/good/a.png', 'test/x/0.png', 'test/x/1.png']
  found = found_in(tmp_path, *images, *masks)
  assert [found[mask] for mask in masks] == ['mask of 0', 'mask of 1']


def test_a_folder_beside_good_ones_is_doubted(tmp_path, caplog):
  touch(tmp_path, 'good/0.png', 'bent/0.png')
  folder.find(tmp_path / 'good')
  assert not caplog.messages
  folder.find(tmp_path / 'bent')
  assert caplog.messages == [
    f'{tmp_path / "bent"} is taken for good images, but stands beside good; '
    'give good images alone'
  ]
