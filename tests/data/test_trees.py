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
      target = self.root.parent / 'elsewhere' / f'{self.names}{path.suffix}'
      target.parent.mkdir(exist_ok=True)
      target.touch()
      path.symlink_to(target)
    else:
      path.touch()
    self.files.add(path)
    return path

  def images(self, place, most=6):
    """Makes images in a folder, some deeper down."""
    made = []
    for _ in range(self.random.randint(1, most)):
      self.names += 1
      deep = self.random.choice(['', '', '', 'monday', 'line 1/shift 2'])
      suffix = self.random.choice(SUFFIXES)
      made.append(self.touch(place / deep / f'{self.names:03}{suffix}'))
    return made

  def flat(self, place):
    """Makes images in a folder, none deeper down."""
    return [
      self.touch(place / f'{i}{self.random.choice(SUFFIXES)}')
      for i in range(self.random.randint(1, 6))
    ]

  def defects(self, place, masks):
    """Makes folders of defects, and masks for some of their images."""
    mask_folder = place / self.one_of(MASKS)
    for kind in self.random.sample(KINDS, self.random.randint(1, 3)):
      for image in self.images(masks / kind):
        style = self.random.choice(
          ['none', 'mask', 'same', 'beside', 'loco', 'flat']
        )
        inside = mask_folder / image.parent.relative_to(masks)
        form = self.random.choice(['NFC', 'NFD'])
        inside = Path(unicodedata.normalize(form, str(inside)))
        match style:
          case 'mask':
            made = [inside / f'{image.stem}_mask.png']
          case 'same':
            made = [inside / f'{image.stem}.png']
          case 'beside':
            made = [image.with_name(f'{image.stem}_mask.png')]
          case 'loco':
            made = [inside / image.stem / f'00{i}.png' for i in range(2)]
          case 'flat':
            made = [mask_folder / f'{image.stem}.png']
          case _:
            made = []
        self.images_of |= {self.touch(mask): image for mask in made}

  def mvtec(self, place):
    """Makes train, test and perhaps more."""
    train = place / self.one_of(['train', 'training'])
    if self.random.random() < 0.8:
      self.trained.update(self.images(train / self.one_of(GOOD)))
      if self.random.random() < 0.3:
        self.images(train / self.one_of(BAD))
    else:
      self.trained.update(self.flat(train))
    test = place / self.one_of(['test', 'testing'])
    if self.random.random() < 0.8:
      self.images(test / self.one_of(GOOD))
      self.defects(place, test)
    if self.random.random() < 0.3:
      held = place / self.one_of(['validation', 'val'])
      self.images(held / self.one_of(GOOD))

  def beside(self, place):
    """Makes a folder of good images beside folders of defects."""
    self.trained.update(self.images(place / self.one_of(GOOD), 12))
    if self.random.random() < 0.7:
      self.defects(place, place)
    if self.random.random() < 0.3:
      self.images(place / self.one_of(BAD))

  def loose_images(self, place):
    """Makes good images in a folder, perhaps with a folder of bad ones."""
    self.trained.update(self.flat(place))
    if self.random.random() < 0.4:
      self.images(place / self.one_of(BAD))

  def unclear(self, place):
    """Makes a tree in which names do not tell which images are good."""
    what = self.random.randrange(4)
    names = self.random.sample(KINDS, 2)
    if what == 0:
      self.flat(place)
      self.images(place / names[0])
    elif what == 1:
      for name in names:
        self.images(place / 'train' / name)
    elif what == 2:
      self.flat(place / self.one_of(BAD))
      self.flat(place / names[0])
    else:
      self.flat(place / 'train')
      self.images(place / 'train' / names[0])

  def litter(self):
    """Makes what no run can use."""
    folders = [self.root, *(p for p in self.root.rglob('*') if p.is_dir())]
    for _ in range(self.random.randint(0, 4)):
      place = self.random.choice(folders)
      name = self.random.choice(LITTER)
      if not os.path.lexists(place / name):
        self.touch(place / name)
    if self.random.random() < 0.3:
      link = self.random.choice(folders) / 'gone.png'
      link.symlink_to(self.root / 'nowhere.png')
      self.files.add(link)
    if self.random.random() < 0.3:
      link = self.random.choice(folders) / 'up'
      link.symlink_to(self.root, target_is_directory=True)
      self.files.add(link)


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_file_has_one_use_and_none_but_good_images_are_trained_on(random):
  with tempfile.TemporaryDirectory() as temporary:
    root = Path(temporary, 'root')
    root.mkdir()
    maker = Maker(root, random)
    makers = [maker.mvtec, maker.beside, maker.loose_images, maker.unclear]
    make = random.choices(makers, [4, 4, 3, 2])[0]
    several = random.random() < 0.4
    for name in ('valve', 'plate')[: 1 + several]:
      make(root / name if several else root)
    maker.litter()
    clear = make != maker.unclear
    try:
      found = folder.find(root)
    except ValueError as error:
      assert not clear, error
      assert 'NAME' in str(error) or 'no training images' in str(error), error
      return
    used = [file for one in found.categories for file in one.files()]
    # Every file is used or left out, once.
    assert len(used) == len(set(used))
    assert not set(used) & found.left_out.keys()
    assert {*used, *found.left_out} == maker.files
    trained = {file for one in found.categories for file in one.train}
    assert trained <= maker.trained
    paired = {
      mask: sample.path
      for one in found.categories
      for sample in one.test
      for mask in sample.masks
    }
    assert paired.items() <= maker.images_of.items()
    if clear:
      assert paired == maker.images_of
      tested = {
        sample.path
        for one in found.categories
        for sample in one.test
        if not sample.label
      }
      assert maker.trained <= trained | tested
      defective = {
        sample.path
        for one in found.categories
        for sample in one.test
        if sample.label
      }
      assert not defective & maker.trained
