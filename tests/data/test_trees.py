"""Random trees of files: each has one use, the one that its name says."""

import itertools
import tempfile
import unicodedata
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_folder import found_in

NAMES = {
  'good': ('good', 'OK', 'Normal', 'Good Images', 'normal_dir', 'IO'),
  'bad': ('bad', 'NG', 'Defective', 'abnormal_dir', 'reject'),
  'kind': ('crack', 'bent lead', 'Kratzer_ü', '07'),
  'mask': ('ground_truth', 'masks', 'MASK', 'Ground Truth', 'mask_dir'),
  **{'train': ('train', 'Training'), 'test': ('test', 'Testing')},
  'val': ('val', 'Validation'),
}
# The folders in which files lie, at any depth; the first are trained on.
PLACES = (
  *('train good', 'good', 'train', ''),
  *('test good', 'test kind', 'test kind', 'bad', 'train bad', 'val good'),
  *('mask kind', 'mask kind', 'test kind mask', 'test mask kind'),
)
LITTER = ('Thumbs.db', '.DS_Store', 'notes.txt', '@eaDir/a.png', '._a.png')


@st.composite
def trees(draw):
  """Draws files, and whether each may be trained on."""
  names = {role: draw(st.sampled_from(some)) for role, some in NAMES.items()}
  form = draw(st.sampled_from(['NFC', 'NFD']))
  categories = draw(st.sampled_from([[''], ['valve', 'plate']]))
  indices = [draw(st.integers(0, 2))]
  indices += draw(st.lists(st.integers(0, len(PLACES) - 1), max_size=9))
  made = {}
  for index in indices:
    place = [names[role] for role in PLACES[index].split()]
    deep = draw(st.sampled_from(['', '', '', 'monday']))
    stem = draw(st.sampled_from('1123')) + draw(st.sampled_from(['', '_mask']))
    name = (
      f'{stem}.png'
      if index < 6
      else draw(st.sampled_from([f'{stem}.JPG', f'{stem}.bmp', *LITTER]))
    )
    for category in categories:
      path = Path(category, *place, deep, name)
      made[Path(unicodedata.normalize(form, str(path)))] = index < 4
  return made


@settings(max_examples=300, deadline=None, derandomize=True)
@given(trees())
def test_every_file_has_one_use_and_none_but_good_images_are_trained_on(tree):
  with tempfile.TemporaryDirectory() as root:
    try:
      found = found_in(Path(root), *map(str, tree))
    except ValueError as error:
      assert '\n' not in str(error)
      return
  assert found.keys() == {*map(str, tree)}
  for path, may_train in tree.items():
    use = found[str(path)]
    assert may_train or use != 'train'
    named = (path.stem, path.stem.removesuffix('_mask'), path.parent.name)
    if use.startswith('mask of '):
      assert use.removeprefix('mask of ') in named


@st.composite
def clear_trees(draw):
  """Draws images and masks by name, each with the uses that it may have."""
  uses, numbers = {}, itertools.count(100)

  def one_of(role):
    change = draw(st.sampled_from([str, str.upper, str.title]))
    return change(draw(st.sampled_from(NAMES[role])))

  def images(place, *use):
    below = st.sampled_from(['', '', 'monday', 'line 1/shift 2'])
    deep = draw(st.lists(below, min_size=1, max_size=6))
    made = [place / one / f'{next(numbers)}.JPG' for one in deep]
    uses.update(dict.fromkeys(made, use))
    return made

  for category in map(Path, draw(st.sampled_from([[''], ['valve', 'plate']]))):
    tested, masks = category, category / one_of('mask')
    kinds = st.sampled_from(NAMES['kind'])
    if draw(st.booleans()):
      tested = category / one_of('test')
      images(category / one_of('train') / one_of('good'), 'train')
      images(category / one_of('val') / one_of('good'), 'validation')
      images(tested / one_of('good'), 'good')
    else:  # Some are drawn to test on.
      images(category / one_of('good'), 'train', 'good')
    for kind in draw(st.lists(kinds, max_size=3, unique=True)):
      for image in images(tested / kind, kind):
        inside = str(image.relative_to(tested).with_suffix(''))
        form = draw(st.sampled_from(['NFC', 'NFD']))
        inside = masks / unicodedata.normalize(form, inside)
        some = (
          *([], [inside], [f'{inside}_mask'], [masks / image.stem]),
          *([inside / '0', inside / '1'], [f'{image.with_suffix("")}_mask']),
        )
        for mask in draw(st.sampled_from(some)):
          uses[Path(f'{mask}.png')] = (f'mask of {image.stem}',)
  return uses


@settings(max_examples=200, deadline=None, derandomize=True)
@given(clear_trees(), st.sampled_from(LITTER))
def test_each_file_is_what_its_name_says_each_mask_at_its_image(uses, litter):
  with tempfile.TemporaryDirectory() as root:
    found = found_in(Path(root), *map(str, uses), litter)
  assert found.keys() == {litter, *map(str, uses)}
  for path, use in uses.items():
    assert found[str(path)] in use
