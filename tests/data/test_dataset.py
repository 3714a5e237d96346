"""What becomes of every file that a run is given."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simplenet_jax.config import from_protocol
from simplenet_jax.data import category, dataset, files, tree


@pytest.fixture
def data(tmp_path):
  data = from_protocol().data
  data.resize, data.crop, data.held_out, data.held_out_least = 32, 0, 0.1, 2
  data.root = str(tmp_path / 'part')
  return data


def _save(data, *names, value=90):
  for name in names:
    path = Path(data.root) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((40, 40), value, np.uint8)
    pixels[8:16, 8:16] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def part(data):
  _save(data, *(f'train/good/{i}.png' for i in range(10)))
  _save(data, 'test/good/a.png', 'test/x/b.png', 'test/x/c.png', 'test/y/d.png')
  _save(data, 'ground_truth/x/b_mask.png', 'ground_truth/x/c.png', value=0)
  return Path(data.root)


def _rows(opened):
  return {(r.use, r.left_out): (r.count, r.example) for r in opened.files}


def test_every_use_is_counted_with_an_example(data, part, capsys, caplog):
  (part / 'readme.txt').write_text('x')
  opened = dataset.open_categories(data)
  assert _rows(opened) == {
    ('train', False): (8, 'train/good/0.png'),
    ('held out', False): (2, 'train/good/2.png'),
    ('good test', False): (1, 'test/good/a.png'),
    ('defective test: x', False): (2, 'test/x/b.png'),
    ('defective test: y', False): (1, 'test/y/d.png'),
    ('mask', False): (2, 'ground_truth/x/b_mask.png'),
    (tree.NO_IMAGE, True): (1, 'readme.txt'),
  }
  told = capsys.readouterr().out
  assert '8  train, such as train/good/0.png' in told
  assert caplog.messages == [
    f'part: 1 of 3 defective images: no mask; left out of pixel figures; such '
    f'as {part}/test/y/d.png'
  ]


def test_many_kinds_of_defects_are_one_line(data, part, capsys):
  _save(data, *(f'test/kind{i}/0.png' for i in range(10)))
  assert len(_rows(dataset.open_categories(data))) == 16
  told = capsys.readouterr().out
  assert '13  defective test: 12 kinds, such as' in told
  assert 'kind3' not in told


def test_images_that_cannot_be_read_are_left_out(data, part, caplog):
  for name in ('train/good/3.png', 'test/x/b.png'):
    path = part / name
    path.write_bytes(path.read_bytes()[:-30])
  opened = dataset.open_categories(data)
  found = _rows(opened)
  assert found['train', False][0] + found['held out', False][0] == 9
  assert found['defective test: x', False] == (1, 'test/x/c.png')
  assert found[files.UNREADABLE, True] == (2, 'test/x/b.png')
  assert found['a mask of an image that cannot be read', True][0] == 1
  for name in ('train/good/3.png', 'test/x/b.png'):
    assert f'part: left out: {part / name}: cannot be read' in caplog.text
  # Headers alone do not show what is damaged inside.
  found = _rows(dataset.open_categories(data, whole=False))
  assert (files.UNREADABLE, True) not in found
  data.strict = True
  with pytest.raises(
    ValueError, match=r'3\.png: cannot be read: .*with --strict'
  ):
    dataset.open_categories(data)


def test_what_cannot_be_used_is_refused(data, part):
  long = part.parent / ('é' * 101)
  part.rename(long)
  data.root = str(long)
  with pytest.raises(ValueError, match='at most 200 bytes'):
    dataset.open_categories(data)
  data.root = str(long.rename(part))
  for path in (part / 'train/good').iterdir():
    path.write_bytes(b'')
  with pytest.raises(ValueError, match='none of the 10 training images of pa'):
    dataset.open_categories(data)
  data.source, data.normal = 'cifar10', 'good'
  with pytest.raises(ValueError, match='what cifar10 holds is known; leave th'):
    dataset.open_categories(data)


@pytest.mark.parametrize(('count', 'held'), [(3, 0), (4, 1)])
def test_too_few_good_images_for_a_threshold_are_told(
  data, caplog, count, held
):
  _save(data, *(f'{i}.png' for i in range(count)))
  (one,) = dataset.open_categories(data).categories
  assert len(one.category.validation) == held
  told = 'part: 3 good images to train on are too few to hold one out'
  assert (told in caplog.text) == (not held)


def test_turned_images_and_drawn_ones_are_told(data, capsys):
  _save(data, *(f'OK/{i}.png' for i in range(10)), 'NG/x.png')
  exif = Image.Exif()
  exif[0x0112] = 3
  path = Path(data.root) / 'OK/0.png'
  Image.open(path).save(path, exif=exif)
  dataset.open_categories(data)
  told = capsys.readouterr().out
  assert 'part: 2 of its good images (a fifth), drawn at random' in told
  assert 'part: 1 of 11 images are turned as their EXIF orientation' in told


def test_images_outside_are_told_and_other_categories_are_no_warning(
  data, part, caplog
):
  _save(data, 'notes/a.png', 'old/b.png', 'train/bad/c.png')
  dataset.open_categories(data)
  assert (
    f'{part}: left out: outside any folder whose images are used: 3 in notes, '
    'old, train/bad, such as notes/a.png'
  ) in caplog.messages
  _save(data, '../other/train/good/0.png')
  data.root, data.categories = str(part.parent), ('part',)
  found = _rows(dataset.open_categories(data))
  assert found['of a category that is not chosen', True] == (
    *(1, 'other/train/good/0.png'),
  )
  assert 'not chosen' not in caplog.text


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
  text = f'{held} held out, ' if held else ''
  assert found.describe().startswith(f'{count - held} train, {text}0 test')
  assert sorted(found.train + found.validation) == list(whole.train)
  assert list(found.train) == sorted(found.train)
  assert found == category.hold_out(whole, share, least)
  given = _made(count, validation=2)
  assert category.hold_out(given, share, least) == given


def test_images_are_drawn_at_random_by_the_categorys_name():
  first, second = (
    category.hold_out(_made(400, name), 0.1, 0).validation
    for name in ('bolt', 'nut')
  )
  assert first != second
  numbers = [int(path.stem) for path in first]
  # Neither the first or the last ones, nor every tenth.
  assert len({b - a for a, b in itertools.pairwise(numbers)}) > 5
