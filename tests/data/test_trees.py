"""Random trees of files, each made with a meaning that must not be missed."""

import os
import tempfile
import unicodedata
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax.data import folder

GOOD = ('good', 'ok', 'normal', 'pass', 'Good Images', 'normal_dir', 'IO')
BAD = ('bad', 'NG', 'defective', 'abnormal_dir', 'reject')
KINDS = ('crack', 'bent lead', 'Kratzer_ü', 'é', '07')
MASKS = ('ground_truth', 'masks', 'mask', 'Ground Truth', 'mask_dir')
SUFFIXES = ('.png', '.jpg', '.JPG', '.tif', '.bmp')
LITTER = ('Thumbs.db', '.DS_Store', 'notes.txt', '@eaDir/a.png', '._a.png')


class Maker:
  """Makes a tree, and notes what each file is meant to be."""

  def __init__(self, root, random):
    self.root, self.random = root, random
    self.trained, self.files, self.names = set(), set(), 0
    self.images_of = {}  # Of each mask.
    self.loose = random.random() < 0.4  # Good images in no folder of their own.

  def one_of(self, names):
    """A name in some case and some Unicode form."""
    name = self.random.choice(names)
    name = self.random.choice([name, name, name.upper(), name.title()])
    return unicodedata.normalize(self.random.choice(['NFC', 'NFD']), name)

  def touch(self, path):
    """Makes a file; some are links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if self.random.random() < 0.1:
      self.names += 1
      target = self.root.parent / f'{self.names}{path.suffix}'
      target.touch()
      path.symlink_to(target)
    else:
      path.touch()
    self.files.add(path)
    return path

  def images(self, place, deep=('', '', '', 'monday', 'line 1/shift 2')):
    """Makes images in a folder, some deeper down."""
    made = []
    for _ in range(self.random.randint(1, 8)):
      self.names += 1
      name = f'{self.names:03}{self.random.choice(SUFFIXES)}'
      made.append(self.touch(place / self.random.choice(deep) / name))
    return made

  def flat(self, place):
    return self.images(place, [''])

  def defects(self, place, tested):
    """Makes folders of defects, and masks for some of their images."""
    masks = place / self.one_of(MASKS)
    for kind in self.random.sample(KINDS, self.random.randint(1, 3)):
      for image in self.images(tested / kind):
        inside = str(masks / image.parent.relative_to(tested))
        form = self.random.choice(['NFC', 'NFD'])
        inside, stem = Path(unicodedata.normalize(form, inside)), image.stem
        styles = (
          [],
          [inside / f'{stem}_mask.png'],
          [inside / f'{stem}.png'],
          [image.with_name(f'{stem}_mask.png')],
          [inside / stem / f'00{i}.png' for i in range(2)],  # As LOCO has it.
          [masks / f'{stem}.png'],
        )
        for mask in self.random.choice(styles):
          self.images_of[self.touch(mask)] = image

  def mvtec(self, place):
    """Makes train, test and perhaps more."""
    train = place / self.one_of(['train', 'training'])
    if self.random.random() < 0.8:
      self.trained.update(self.images(train / self.one_of(GOOD)))
      if self.random.random() < 0.3:
        self.images(train / self.one_of(BAD))
    else:
      self.trained.update(self.flat(train))
    if self.random.random() < 0.8:
      test = place / self.one_of(['test', 'testing'])
      self.images(test / self.one_of(GOOD))
      self.defects(place, test)
    if self.random.random() < 0.3:
      held = place / self.one_of(['validation', 'val'])
      self.images(held / self.one_of(GOOD))

  def beside(self, place):
    """Makes good images, in a folder or in none, beside defects."""
    if self.loose:
      self.trained.update(self.flat(place))
    else:
      self.trained.update(self.images(place / self.one_of(GOOD)))
    if not self.loose and self.random.random() < 0.7:
      self.defects(place, place)
    if self.random.random() < 0.3:
      self.images(place / self.one_of(BAD))

  def unclear(self, place):
    """Makes a tree in which names do not tell which images are good."""
    first, second = self.random.sample(KINDS, 2)
    bad, train = place / self.one_of(BAD), place / 'train'
    folders = ((place, place / first), (train / first, train / second))
    folders += ((bad, place / first), (train, train / second))
    for one in self.random.choice(folders):
      self.flat(one)

  def litter(self):
    """Makes what no run can use."""
    folders = [self.root, *(p for p in self.root.rglob('*') if p.is_dir())]
    for name in self.random.sample(LITTER, self.random.randint(0, 4)):
      place = self.random.choice(folders) / name
      if not os.path.lexists(place):
        self.touch(place)
    for name, target in (('gone.png', 'nowhere.png'), ('up', '')):
      if self.random.random() < 0.3:
        link = self.random.choice(folders) / name
        link.symlink_to(self.root / target)
        self.files.add(link)


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_file_has_one_use_and_none_but_good_images_are_trained_on(random):
  with tempfile.TemporaryDirectory() as temporary:
    maker = Maker(Path(temporary, 'root'), random)
    maker.root.mkdir()
    makers = (maker.mvtec, maker.beside, maker.unclear)
    make = random.choices(makers, [4, 7, 2])[0]
    for name in random.choice(((), ('valve', 'plate'))) or ('',):
      make(maker.root / name)
    maker.litter()
    clear = make != maker.unclear
    try:
      found = folder.find(maker.root)
    except ValueError as error:
      assert not clear, error
      assert 'NAME' in str(error) or 'no training images' in str(error), error
      return
    used = [file for one in found.categories for file in one.files()]
    assert len(used) == len(set(used))
    assert not set(used) & found.left_out.keys()
    assert {*used, *found.left_out} == maker.files
    trained = {file for one in found.categories for file in one.train}
    assert trained <= maker.trained
    tested = [sample for one in found.categories for sample in one.test]
    paired = {mask: sample.path for sample in tested for mask in sample.masks}
    assert paired.items() <= maker.images_of.items()
    if clear:
      assert paired == maker.images_of
      assert maker.trained <= trained | {s.path for s in tested if not s.label}
      assert not maker.trained & {s.path for s in tested if s.label}
