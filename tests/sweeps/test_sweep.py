"""The paper's experiments, small: every config runs from end to end."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from simplenet_jax import train
from simplenet_jax.config import load_config
from simplenet_jax.demo import generate
from simplenet_jax.sweeps import experiment, settings
from tests import commands
from tests.models import fabricated

SMALL = {
  'data.source': 'folder',
  'data.categories': ('gasket',),
  'data.resize': 64,
  'seeds': (0, 1),
  'patch.pretrain_dim': 16,
  'patch.target_dim': 16,
  'head.hidden': 8,
  'train.epochs': 2,
  'evaluation.every': 1,
  'engine.devices': 1,
}
# What takes time; the other backbones are built in other tests.
ONLY = {
  'table4': ['resnet18', 'wide_resnet50_2'],
  'figure2': ['resnet18', 'resnet50'],
}
EXPERIMENTS = [
  *(f'table{number}' for number in range(1, 6)),
  *('figure2', 'figure4', 'figure5', 'figure6', 'figure7', 'figure8'),
]


class Sweeps:
  """Sweeps that share one work directory."""

  def __init__(self, folder):
    self.workdir = folder / 'paper'
    counts = {'train': 8, 'validation': 4, 'good': 4, 'defective': 8}
    generate(folder / 'demo', categories=['gasket'], size=64, **counts)
    self.small = {**SMALL, 'data.root': str(folder / 'demo')}
    self.flags = []
    for name in ('resnet18', 'resnet50', 'wide_resnet50_2'):
      path = folder / f'{name}.safetensors'
      safetensors.numpy.save_file(fabricated.tensors(name), path)
      self.flags.append(f'--config.weights.{name}={path}')

  def run(self, name, *more, **base):
    flags = [f'--config={name}:demo', f'--workdir={self.workdir}', *self.flags]
    for field, value in {**self.small, **base}.items():
      text = ','.join(map(str, value)) if isinstance(value, tuple) else value
      flags.append(f'--config.base.{field}={text}')
    return commands.run('sweep', *flags, *more)

  def base(self):
    config = settings.base('demo')
    with config.unlocked():
      config.update_from_flattened_dict(self.small)
    return config

  def rows(self, name):
    return json.loads((self.workdir / f'{name}.json').read_text())['rows']


@pytest.fixture(scope='module')
def sweeps(tmp_path_factory):
  return Sweeps(tmp_path_factory.mktemp('sweeps'))


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_every_experiment_of_the_paper_runs(sweeps, name):
  labels = [label for label, _ in load_config(f'paper/{name}:demo').variants]
  labels = ONLY.get(name, labels)
  done = sweeps.run(f'paper/{name}', f'--config.only={",".join(labels)}')
  assert done.status == 0, done.errors
  rows = sweeps.rows(name)
  assert not (sweeps.workdir / 'features').exists()
  assert [row['label'] for row in rows] == labels
  for row in rows:
    figures = row['figures']['last epoch']
    assert set(figures) == {'gasket', 'mean'}
    assert 0 <= figures['mean']['image_auroc']['mean'] <= 1
    assert len(figures['mean']['image_auroc']['seeds']) == 2
  with (sweeps.workdir / f'{name}.csv').open() as file:
    lines = list(csv.DictReader(file))
  assert {line['variant'] for line in lines} == set(labels)
  if name.startswith('figure'):
    picture = sweeps.workdir / f'{name}.png'
    if name == 'figure8':
      picture = sweeps.workdir / name / 'gasket.png'
    else:
      ElementTree.parse(picture.with_suffix('.svg'))
    with Image.open(picture) as image:
      assert np.asarray(image.convert('L')).std() > 5
  if name == 'figure4':
    spreads = rows[0]['deviations']['gasket']
    assert len(spreads['features']) == len(spreads['adapted']) == 16
    assert min(spreads['features']) > 0
    again = sweeps.run(f'paper/{name}')  # What is finished is not done again.
    assert 'resumes   2 heads finished, 0 under way' in again.told


def test_a_variant_is_what_its_run_alone_would_be(sweeps, tmp_path):
  config = sweeps.base()
  config.head.adaptor, config.train.loss = 'mlp', 'truncated_l1'
  alone = train.train_and_evaluate(config, tmp_path)
  row = sweeps.rows('table3')[1]
  assert row['label'] == 'non-linear'
  ours = row['figures']['last epoch']['gasket']
  assert ours == alone['categories']['gasket']['last']


def test_a_variant_that_fails_is_left_out_and_told(sweeps, tmp_path):
  variants = {'fine': {}, 'far': {'train.sigma': 1e38}}
  config = settings.sweep('mine', 'Mine', sweeps.base(), variants)
  config.only = 'far'
  with pytest.raises(ValueError, match='all variants failed; far: 1 of 1 cat'):
    experiment.run(config, tmp_path)
  config.only = ''
  with pytest.raises(ValueError, match=r'1 of 2 .* left out; far: 1 of 1 cat'):
    experiment.run(config, tmp_path)
  found = json.loads((tmp_path / 'mine.json').read_text())
  assert [row['label'] for row in found['rows']] == ['fine']
  assert list(found['failures']) == ['far']
  assert 'Failed and left out: far.' in (tmp_path / 'mine.md').read_text()


def test_flags_that_would_mend_a_run_are_told_as_the_sweeps(sweeps, tmp_path):
  config = settings.sweep('mine', 'Mine', sweeps.base(), {'one': {}})
  config.base.backbone.weights = 'none.pth'
  told = r'one: none\.pth: .*; check --config\.base\.backbone\.weights$'
  with pytest.raises(ValueError, match=told):
    experiment.run(config, tmp_path)


def test_the_recipe_stands_beside_the_best_test_epoch_of_the_reference(sweeps):
  sweeps.workdir = sweeps.workdir.with_name('study')
  done = sweeps.run('study/ablation', '--config.only=demo,first form')
  assert done.status == 0, done.errors
  rows = sweeps.rows('ablation')
  assert set(rows[0]['figures']) == {'last epoch', 'selected on test'}
  assert '| first form |' in (sweeps.workdir / 'ablation.md').read_text()
