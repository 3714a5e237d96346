import json

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax import demo
from simplenet_jax.data import folder

SIZE = 48
FLAWS = [(c, flaw) for c, flaws in demo.FLAWS.items() for flaw in flaws]


def read(path):
  return np.asarray(PIL.Image.open(path))


def pictures_in(root):
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in sorted(root.rglob('*.png'))
  }


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  root = tmp_path_factory.mktemp('demo') / 'set'
  demo.generate(root, train=2, good=1, defective=6, size=SIZE, workers=2)
  return root


def test_a_set_reads_as_mvtec_folders(small):
  marker = json.loads((small / demo.MARKER).read_text())
  assert marker['categories'] == sorted(demo.CATEGORIES)
  for path in small.rglob('*.png'):
    image, is_mask = read(path), path.stem.endswith('_mask')
    assert image.dtype == np.uint8
    assert image.shape == ((SIZE, SIZE) if is_mask else (SIZE, SIZE, 3))
    assert not is_mask or set(np.unique(image)) == {0, 255}
  categories = folder.find(small).categories
  assert [one.name for one in categories] == sorted(demo.CATEGORIES)
  for one in categories:
    assert len(one.train) == 2
    assert sum(sample.label for sample in one.test) == 6
    assert {s.defect for s in one.test} == {'good', *demo.FLAWS[one.name]}
    assert all(bool(s.masks) == bool(s.label) for s in one.test)


def test_same_seed_same_bytes_other_seed_other_pictures(small, tmp_path):
  arguments = {'train': 2, 'good': 1, 'defective': 6, 'size': SIZE}
  demo.generate(tmp_path / 'same', **arguments, workers=1)
  demo.generate(tmp_path / 'other', **arguments, seed=1)
  assert pictures_in(tmp_path / 'same') == pictures_in(small)
  other = pictures_in(tmp_path / 'other')
  for name, data in pictures_in(small).items():
    assert other[name] != data or name.endswith('_mask.png')


def test_more_pictures_and_fewer_categories_leave_the_others(small, tmp_path):
  numbers = {'train': 3, 'validation': 3, 'good': 2, 'defective': 9}
  demo.generate(tmp_path / 'set', categories=['wood'], size=SIZE, **numbers)
  more = pictures_in(tmp_path / 'set')
  before = {k: v for k, v in pictures_in(small).items() if k[:4] == 'wood'}
  assert before.items() <= more.items()
  assert len(more) == 3 + 3 + 2 + 2 * 9
  [wood] = folder.find(tmp_path / 'set').categories
  assert len(wood.validation) == 3
  # No picture is there twice, for training and for a threshold.
  images = [v for k, v in more.items() if not k.endswith('_mask.png')]
  assert len(set(images)) == len(images)


def test_a_complete_set_is_used_again(small):
  before = {path: path.stat().st_mtime_ns for path in small.rglob('*')}
  demo.generate(small, train=2, good=1, defective=6, size=SIZE)
  assert {p: p.stat().st_mtime_ns for p in small.rglob('*')} == before


def test_another_set_is_refused(small):
  with pytest.raises(ValueError, match=r"'train': 2.*expected.*'train': 3"):
    demo.generate(small, train=3, good=1, defective=6, size=SIZE)


def test_a_folder_of_something_else_is_refused(tmp_path):
  (tmp_path / 'holiday.png').touch()
  with pytest.raises(ValueError, match='something else'):
    demo.generate(tmp_path, size=SIZE)
  assert [path.name for path in tmp_path.iterdir()] == ['holiday.png']


def test_an_interrupted_set_leaves_nothing(tmp_path, monkeypatch):
  draw = demo.draw

  def fail_at_the_second(seed, category, split, flaw, index, size):
    if index:
      raise RuntimeError('interrupted')
    return draw(seed, category, split, flaw, index, size)

  monkeypatch.setattr(demo, 'draw', fail_at_the_second)
  with pytest.raises(RuntimeError, match='interrupted'):
    demo.generate(tmp_path / 'set', categories=['wood'], size=32)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'categories': ['wool']}, r"\['wool'\], expected some of weave"),
    ({'categories': []}, 'found none'),
    ({'train': 0}, 'train: found 0, expected >= 1'),
    ({'validation': -1}, 'validation: found -1, expected >= 0'),
    ({'seed': -1}, 'seed: found -1'),
    ({'size': 8}, 'size: found 8, expected >= 32'),
  ],
)
def test_wrong_arguments_are_told(tmp_path, arguments, message):
  with pytest.raises(ValueError, match=message):
    demo.generate(tmp_path / 'set', **arguments)


@pytest.mark.parametrize(('category', 'flaw'), FLAWS)
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_mask_holds_all_that_the_flaw_altered(category, flaw, seed):
  bad, mask = demo.draw(seed, category, 'test', flaw, 0, 96)
  with pytest.MonkeyPatch.context() as patch:
    # The same picture, but every flaw is refused.
    patch.setattr(demo, '_spoil', lambda good, _: (good, mask))
    good, _ = demo.draw(seed, category, 'test', flaw, 0, 96)
  altered = (bad != good).any(-1)
  assert not (altered & ~mask).any()
  # Gaps closed in the mask stay a small share of it.
  assert (altered & mask).sum() > 0.6 * mask.sum()
  assert 0.0015 <= mask.mean() < 0.2
  difference = np.abs(bad.astype(int) - good).max(-1)[mask]
  assert np.quantile(difference, 0.75) > 10


@pytest.mark.parametrize('category', demo.CATEGORIES)
def test_good_parts_have_empty_masks_and_differ(category):
  first, mask = demo.draw(0, category, 'train', '', 0, SIZE)
  second, _ = demo.draw(0, category, 'train', '', 1, SIZE)
  test, _ = demo.draw(0, category, 'test', '', 0, SIZE)
  assert not mask.any()
  assert np.abs(first.astype(int) - second).mean() > 3
  assert np.abs(first.astype(int) - test).mean() > 3


@pytest.mark.parametrize('category', demo.CATEGORIES)
def test_a_picture_shows_the_same_at_every_size(category):
  def shrunk(size):
    image, _ = demo.draw(0, category, 'train', '', 0, size)
    return np.asarray(
      PIL.Image.fromarray(image).resize((24, 24), PIL.Image.Resampling.BOX), int
    )

  assert np.abs(shrunk(96) - shrunk(192)).mean() < 3
