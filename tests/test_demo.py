import json

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax import demo
from simplenet_jax.data import folder
from tests.data.serving import contents

SIZE = 48
NUMBERS = {'train': 2, 'good': 1, 'defective': 6, 'size': SIZE}
FLAWS = [(c, flaw) for c, flaws in demo.FLAWS.items() for flaw in flaws]


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  root = tmp_path_factory.mktemp('demo') / 'set'
  demo.generate(root, **NUMBERS)
  return root


def test_a_set_reads_as_mvtec_folders(small):
  marker = json.loads((small / demo.MARKER).read_text())
  assert marker['categories'] == sorted(demo.FLAWS)
  for path in small.rglob('*.png'):
    image = np.asarray(PIL.Image.open(path))
    is_mask = path.stem.endswith('_mask')
    assert image.dtype == np.uint8
    assert image.shape == ((SIZE, SIZE) if is_mask else (SIZE, SIZE, 3))
    assert not is_mask or set(np.unique(image)) == {0, 255}
  categories = folder.find(small).categories
  assert [one.name for one in categories] == sorted(demo.FLAWS)
  for one in categories:
    assert len(one.train) == 2
    assert sum(sample.label for sample in one.test) == 6
    assert {s.defect for s in one.test} == {'good', *demo.FLAWS[one.name]}
    assert all(bool(s.masks) == bool(s.label) for s in one.test)


def test_pictures_depend_on_nothing_but_seed_and_number(small, tmp_path):
  numbers = {'train': 3, 'validation': 3, 'good': 2, 'defective': 9}
  demo.generate(tmp_path / 'set', categories=['wood'], size=SIZE, **numbers)
  more = contents(tmp_path / 'set')
  assert more.pop(demo.MARKER)
  before = {k: v for k, v in contents(small).items() if k[:4] == 'wood'}
  assert before.items() <= more.items()
  assert len(more) == 3 + 3 + 2 + 2 * 9
  [wood] = folder.find(tmp_path / 'set').categories
  assert len(wood.validation) == 3
  # No picture is there twice, for training and for a threshold.
  images = [v for k, v in more.items() if not k.endswith('_mask.png')]
  assert len(set(images)) == len(images)
  demo.generate(tmp_path / 'other', categories=['wood'], seed=1, **NUMBERS)
  other = contents(tmp_path / 'other')
  for name, data in before.items():
    assert other[name] != data or name.endswith('_mask.png')


def test_a_complete_set_is_used_again_and_others_are_refused(small, tmp_path):
  before = {path: path.stat().st_mtime_ns for path in small.rglob('*')}
  demo.generate(small, **NUMBERS)
  with pytest.raises(ValueError, match=r"'train': 2.*expected.*'train': 3"):
    demo.generate(small, **{**NUMBERS, 'train': 3})
  assert {p: p.stat().st_mtime_ns for p in small.rglob('*')} == before
  (tmp_path / 'holiday.png').touch()
  with pytest.raises(ValueError, match='something else'):
    demo.generate(tmp_path, size=SIZE)
  assert [path.name for path in tmp_path.iterdir()] == ['holiday.png']
  (tmp_path / demo.MARKER).write_text('{')
  with pytest.raises(ValueError, match=r'demo\.json: damaged .*; remove its'):
    demo.generate(tmp_path, size=SIZE)


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


@pytest.mark.parametrize('category', demo.FLAWS)
def test_good_parts_differ_and_show_the_same_at_every_size(category):
  def shrunk(size, index=0, split='train'):
    image, mask = demo.draw(0, category, split, '', index, size)
    assert not mask.any()
    box = PIL.Image.Resampling.BOX
    return np.asarray(PIL.Image.fromarray(image).resize((24, 24), box), int)

  first = shrunk(96)
  assert np.abs(first - shrunk(192)).mean() < 3
  assert np.abs(first - shrunk(96, index=1)).mean() > 3
  assert np.abs(first - shrunk(96, split='test')).mean() > 3
