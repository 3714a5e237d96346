"""Which of the images to train on look least like the others."""

import csv

import pytest

from tests import commands
from tests.small import SMALL, make_categories, picture


@pytest.fixture(scope='module')
def cleaned(tmp_path_factory, backbone):
  """Six good images and a defective one, ranked; the command's output."""
  folder = tmp_path_factory.mktemp('clean')
  make_categories(folder / 'data', {'part': 6})
  picture(folder / 'data/part/train/good/3-bad.png', spot=True)
  settings = SMALL | {
    'backbone.weights': backbone,
    'data.root': folder / 'data/part/train/good',
    'nearest.size': 100,
    'train.min_steps': 4,
    'seeds': '0,1',
  }
  given = [f'--config.{name}={value}' for name, value in settings.items()]
  given.append(f'--workdir={folder}/work')
  return folder, commands.run('clean', '--config=folder', *given)


def test_a_defect_among_good_images_is_first(cleaned):
  folder, done = cleaned
  assert done.status == 0, done.errors
  with (folder / 'work/clean.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  images = folder / 'data/part/train/good'
  assert rows[0]['image'] == 'part/train/good/3-bad.png'
  names = {f'part/train/good/{path.name}' for path in images.iterdir()}
  assert {row['image'] for row in rows} == names
  assert [row['rank'] for row in rows] == [str(n) for n in range(1, 8)]
  scores = [float(row['score']) for row in rows]
  assert scores == sorted(scores, reverse=True)
  assert '3-bad.png' in (folder / 'work/report.html').read_text()
  assert 'good: the good images least like the others first' in done.told
  assert '     1  ' in done.told
  assert 'Nothing was deleted' in done.told


def test_a_finished_run_is_enough(cleaned):
  folder, first = cleaned
  before = (folder / 'work/clean.csv').read_bytes()
  done = commands.run('clean', f'--workdir={folder}/work')
  assert done.status == 0, done.errors
  assert ', epoch ' not in done.told
  assert done.told.split('least like')[1] == first.told.split('least like')[1]
  assert (folder / 'work/clean.csv').read_bytes() == before


def test_a_run_whose_heads_leave_nothing_out_is_refused(cleaned):
  folder, _ = cleaned
  given = f'--workdir={folder}/work', '--config.train.folds=false'
  done = commands.run('clean', *given)
  assert (done.status, done.told) == (1, '')
  assert 'good: no head leaves out images that it could' in done.error
