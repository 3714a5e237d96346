import json
import re

import numpy as np
import pytest

from simplenet_jax import train
from tests import commands
from tests.small import make_categories, make_config, picture


@pytest.fixture(scope='module')
def work(tmp_path_factory, backbone):
  """The work directory of a finished run on one category, beside its images."""
  folder = tmp_path_factory.mktemp('evaluate')
  config = make_config(make_categories(folder / 'data', {'cog': 5}), backbone)
  config.seeds = (0,)
  config.evaluation.report, config.evaluation.pictures = False, 0
  train.train_and_evaluate(config, folder / 'work')
  return folder / 'work'


def figures(work):
  table = json.loads((work / 'results.json').read_text())
  return table['categories']['cog']['last'], table['selected_on_test']


def evaluate(work, *more):
  done = commands.run('evaluate', f'--workdir={work}', *more)
  assert done.status == 0, done.errors
  return done.told


def test_a_run_is_evaluated_on_other_images_masks_and_seeds(work):
  images = work.parent / 'data/cog'
  before, selected = figures(work)
  (images / 'ground_truth').rename(images / 'away')
  assert 'scores its test images' not in evaluate(work)
  without, still = figures(work)
  assert without['pixel_auroc']['mean'] is None
  assert without['image_auroc'] == before['image_auroc']
  assert list(still) == ['cog']  # Ties are no longer broken by pixels.
  (images / 'away').rename(images / 'ground_truth')

  picture(images / 'test/good/9.png')
  told = evaluate(work)
  assert 'cog: scores its test images, which changed' in told
  assert ', features: ' not in told
  changed, none = figures(work)
  assert changed != before
  assert none == {}  # Epochs before the last one have not seen the image.
  (images / 'test/good/9.png').unlink()
  evaluate(work)
  assert figures(work) == (before, selected)

  told = evaluate(work, '--config.seeds=0,1')
  assert 'resumes   1 head finished' in told
  after, _ = figures(work)
  assert len(after['image_auroc']['seeds']) == 2
  np.testing.assert_equal(
    after['image_auroc']['seeds'][0], before['image_auroc']['seeds'][0]
  )


def test_nothing_but_new_seeds_is_trained(work):
  for longer in ('epochs=9', 'min_steps=900'):
    done = commands.run(
      'evaluate', f'--workdir={work}', f'--config.train.{longer}'
    )
    assert done.status == 1
    assert 'evaluate trains new seeds alone' in done.error


def test_what_is_no_run_is_told(work, tmp_path):
  run = json.loads((work / 'run.json').read_text()) | {'config': {'seeds': 'x'}}
  (tmp_path / 'run.json').write_text(json.dumps(run))
  done = commands.run('evaluate', f'--workdir={tmp_path}')
  assert done.status == 2  # The config is a flag's value.
  told = r"run\.json: damaged \(.*; give another run's directory"
  assert re.search(f'{tmp_path}.*{told}', done.error)
  none = f'--workdir={tmp_path / "none"}'
  done = commands.run('evaluate', '--config=folder', none)
  assert 'none holds no run; simplenet train starts one' in done.error


def test_tables_are_joined_and_printed(work, tmp_path):
  other = tmp_path / 'other'
  other.mkdir()
  table = json.loads((work / 'results.json').read_text())
  for part in ('categories', 'selected_on_test'):
    table[part]['nut'] = table[part].pop('cog')
  (other / 'results.json').write_text(json.dumps(table))
  done = commands.run(
    'evaluate', work, other, f'--output={tmp_path / "both"}', '--format=latex'
  )
  assert done.status == 0, done.errors
  for row in ('cog', 'nut', 'mean'):
    assert f'\n{row} & ' in done.told
  joined = json.loads((tmp_path / 'both/results.json').read_text())
  assert list(joined['categories']) == ['cog', 'nut']
  twice = commands.run('evaluate', work, work.parent / 'work/../work')
  assert twice.status == 1
  assert 'cog is in both' in twice.error
  for content in ('{', '{}'):
    (other / 'results.json').write_text(content)
    damaged = commands.run('evaluate', other)
    assert damaged.status == 1
    assert f'{other}/results.json: damaged' in damaged.error
