"""The paper's experiments, small: every config runs from end to end."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from simplenet_jax import demo, train
from simplenet_jax.sweeps import experiment, settings
from tests import commands
from tests.models import fabricated

SMALL = {
  'data.source': 'folder',
  'data.categories': 'gasket,',
  'data.resize': 64,
  'seeds': '0,1',
  'patch.pretrain_dim': 16,
  'patch.target_dim': 16,
  'head.hidden': 8,
  'train.epochs': 2,
  'evaluation.every': 1,
  'engine.devices': 1,
}
# What takes time; the other backbones are built in other tests.
ONLY = {'table4': 'resnet18,wide_resnet50_2', 'figure2': 'resnet18,resnet50'}
LABELS = {
  'table1': ['SimpleNet'],
  'table2': ['1', '2', '3', '1+2', '2+3', '1+2+3'],
  'table3': ['linear', 'non-linear', 'none', 'cross-entropy'],
  'table4': ['resnet18', 'wide_resnet50_2'],
  'table5': ['SimpleNet'],
  'figure2': ['resnet18', 'resnet50'],
  'figure4': ['SimpleNet'],
  'figure5': ['0.15', '0.3', '0.6', '1.2', '2.4', '4.8', '9.6', '19.2'],
  'figure6': ['1', '3', '5', '7', '9'],
  'figure7': ['linear', 'non-linear', 'none'],
  'figure8': ['SimpleNet'],
}


class Sweeps:
  """Sweeps that share one work directory."""

  def __init__(self, folder):
    self.workdir = folder / 'paper'
    self.flags = [f'--workdir={self.workdir}']
    counts = {'train': 8, 'validation': 4, 'good': 4, 'defective': 8}
    demo.generate(folder / 'demo', categories=['gasket'], size=64, **counts)
    small = {**SMALL, 'data.root': folder / 'demo'}
    self.flags += [f'--config.base.{n}={value}' for n, value in small.items()]
    for name in ('resnet18', 'resnet50', 'wide_resnet50_2'):
      path = folder / f'{name}.safetensors'
      safetensors.numpy.save_file(fabricated.tensors(name), path)
      self.flags.append(f'--config.weights.{name}={path}')

  def run(self, name, *more):
    config = f'--config=configs/paper/{name}.py:demo'
    return commands.run('sweep', config, *self.flags, *more)

  def found(self, name):
    return json.loads((self.workdir / f'{name}.json').read_text())


@pytest.fixture(scope='module')
def sweeps(tmp_path_factory):
  return Sweeps(tmp_path_factory.mktemp('sweeps'))


@pytest.mark.parametrize('name', LABELS)
def test_every_experiment_of_the_paper_runs(sweeps, name):
  done = sweeps.run(name, f'--config.only={ONLY.get(name, "")}')
  assert done.status == 0, done.errors
  found = sweeps.found(name)
  assert [row['label'] for row in found['rows']] == LABELS[name]
  for row in found['rows']:
    figures = row['figures']['last epoch']
    assert set(figures) == {'gasket', 'mean'}
    assert 0 <= figures['mean']['image_auroc']['mean'] <= 1
    assert len(figures['mean']['image_auroc']['seeds']) == 2
  with (sweeps.workdir / f'{name}.csv').open() as file:
    lines = list(csv.DictReader(file))
  assert {line['variant'] for line in lines} == set(LABELS[name])
  if name == 'figure8':
    picture = sweeps.workdir / name / 'gasket.png'
  else:
    picture = sweeps.workdir / f'{name}.png'
    assert ElementTree.parse(picture.with_suffix('.svg')).getroot() is not None
  with Image.open(picture) as image:
    assert np.asarray(image.convert('L')).std() > 5  # Something is drawn.


def test_what_is_finished_is_not_done_again(sweeps):
  before = sweeps.found('table3')
  files = sorted(sweeps.workdir.glob('*/checkpoints/*/*/*'))
  done = sweeps.run('table3')
  assert done.status == 0, done.errors
  assert done.told.count('resumes   2 heads finished, 0 under way') == 4
  assert sweeps.found('table3') == before
  assert sorted(sweeps.workdir.glob('*/checkpoints/*/*/*')) == files


def test_a_variant_is_what_its_run_alone_would_be(sweeps, tmp_path):
  config = settings.base('demo')
  with config.unlocked():
    config.update_from_flattened_dict(
      {
        **SMALL,
        'data.categories': ('gasket',),
        'seeds': (0, 1),
        'data.root': str(sweeps.workdir.parent / 'demo'),
        'head.adaptor': 'mlp',
      }
    )
  alone = train.train_and_evaluate(config, tmp_path)
  (row,) = [
    row
    for row in sweeps.found('table3')['rows']
    if row['label'] == 'non-linear'
  ]
  ours = row['figures']['last epoch']['gasket']
  assert ours == alone['categories']['gasket']['last']


def test_other_settings_in_the_same_directory_are_refused(sweeps):
  done = sweeps.run('table1', '--config.base.train.epochs=3')
  assert done.status == 1
  assert 'base holds another run: --config.train.epochs was 2, is 3' in (
    done.error
  )


def test_deviations_are_those_of_the_features(sweeps):
  spreads = sweeps.found('figure4')['rows'][0]['deviations']['gasket']
  assert len(spreads['features']) == len(spreads['adapted']) == 16
  assert min(spreads['features']) > 0


def test_an_unknown_variant_is_named(sweeps):
  done = sweeps.run('table2', '--config.only=2,4')
  assert done.error == (
    'error: --config.only has 4; choose of 1, 2, 3, 1+2, 2+3, 1+2+3'
  )


def test_when_all_fail_the_first_is_told(sweeps, tmp_path):
  done = sweeps.run(
    'table3',
    f'--workdir={tmp_path}',
    '--config.only=linear',
    '--config.base.train.sigma=1e38',
  )
  assert done.status == 1
  assert done.error.startswith('error: all variants failed; linear: 1 of 1 ')


def test_a_variant_that_fails_is_left_out_and_told(sweeps, tmp_path):
  base = settings.base('demo')
  with base.unlocked():
    base.update_from_flattened_dict(
      {
        **SMALL,
        'data.categories': ('gasket',),
        'seeds': (0, 1),
        'data.root': str(sweeps.workdir.parent / 'demo'),
      }
    )
  config = settings.sweep(
    'mine', 'Mine', base, {'fine': {}, 'far': {'train.sigma': 1e38}}
  )
  with pytest.raises(ValueError, match=r'1 of 2 .* left out; far: 1 of 1 cat'):
    experiment.run(config, tmp_path)
  found = json.loads((tmp_path / 'mine.json').read_text())
  assert [row['label'] for row in found['rows']] == ['fine']
  assert list(found['failures']) == ['far']
  assert 'Failed and left out: far.' in (tmp_path / 'mine.md').read_text()
  assert (tmp_path / 'mine.png').exists()


def test_what_is_asked_for_later_is_made_of_what_is_finished(sweeps, tmp_path):
  where = f'--workdir={tmp_path}'
  assert sweeps.run('table1', where).status == 0
  before = (tmp_path / 'base/results.json').read_text()
  assert sweeps.run('table1', where).status == 0
  assert (tmp_path / 'base/results.json').read_text() == before
  done = sweeps.run(
    'table1',
    where,
    '--config.base.evaluation.report=true',
    '--config.base.evaluation.pictures=4',
  )
  assert done.status == 0, done.errors
  assert (tmp_path / 'base/pictures/gasket.png').exists()
  assert (tmp_path / 'base/report/gasket.json').exists()
  assert 'No test images' not in (tmp_path / 'base/report.html').read_text()


@pytest.mark.parametrize(
  ('command', 'config', 'flag', 'error'),
  [
    (
      'sweep',
      'paper/table3.py:demo',
      '--config.train.epochs=2',
      'there is no --config.train.epochs; did you mean '
      '--config.base.train.epochs?',
    ),
    (
      'sweep',
      'paper/table3.py:demo',
      '--config.weights.resnet34=x',
      'there is no --config.weights.resnet34; did you mean '
      '--config.weights.resnet',
    ),
    ('main', 'demo.py', '--config.only=x', 'there is no --config.only'),
  ],
)
def test_mistaken_flags_are_told_in_a_line(command, config, flag, error):
  done = commands.run(command, f'--config=configs/{config}', flag)
  assert done.status in (1, 2)
  assert done.error.startswith(f'error: {error}')
