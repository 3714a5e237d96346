"""Runs side by side: each as if it were alone."""

import numpy as np
import pytest

from simplenet_jax import run as runs
from simplenet_jax import train
from simplenet_jax.training import planning
from tests.small import make_category, make_config, spoil

SIZES = {'bolt': 5, 'cog': 7}


@pytest.fixture
def root(tmp_path):
  for name, count in SIZES.items():
    make_category(tmp_path / 'data' / name, train=count)
  return tmp_path / 'data'


def variants(root, backbone, **engine):
  """Three that differ in their heads alone."""
  made = {}
  for name, field, value in (
    ('plain', 'sigma', 0.015),
    ('noisy', 'sigma', 0.6),
    ('longer', 'epochs', 4),
  ):
    config = make_config(root, backbone)
    config.detector.save = config.evaluation.report = False
    config.evaluation.pictures = 0
    config.train[field] = value
    for key, setting in engine.items():
      section, part = key.split('_', 1)
      config[section][part] = setting
    made[name] = config
  return made


def figures(table):
  return {n: one['last'] for n, one in table['categories'].items()}


@pytest.mark.parametrize(
  'engine',
  [{}, {'engine_devices': 2, 'engine_lanes': 2}, {'bank_device_gb': 8.2e-6}],
  ids=['one device', 'two devices', 'streamed'],
)
def test_a_run_is_as_if_it_were_alone(root, backbone, tmp_path, engine, capsys):
  configs = variants(root, backbone, **engine)
  together = train.train_together(
    {name: (own, tmp_path / name) for name, own in configs.items()}, tmp_path
  )
  told = capsys.readouterr().out
  if 'engine_devices' not in engine:  # Seeds of a category may be divided.
    assert told.count('bolt, features: ') == told.count('cog, features: ') == 1
  assert ('streamed: ' in told) == ('bank_device_gb' in engine)
  for name, own in configs.items():
    alone = train.train_and_evaluate(own, tmp_path / f'{name} alone')
    found = figures(runs.conclude(together[name], tell=False))
    for category, metrics in figures(alone).items():
      for metric, summary in metrics.items():
        np.testing.assert_allclose(
          np.array(found[category][metric]['seeds'], float),
          np.array(summary['seeds'], float),
          # Lanes of other width round otherwise.
          atol=0 if 'engine_lanes' not in engine else 0.02,
        )


def test_a_damaged_image_is_told_for_every_run_and_the_rest_goes_on(
  root, backbone, tmp_path, capsys
):
  spoil(root / 'cog/train/good/3.png')
  together = train.train_together(
    {
      name: (own, tmp_path / name)
      for name, own in variants(root, backbone).items()
    },
    tmp_path,
  )
  told = capsys.readouterr().out
  for name, run in together.items():
    assert f'error: {name}, cog: ' in told
    assert list(run.finished) == ['bolt']
    with pytest.raises(ValueError, match=r'1 of 2 categories failed \(cog\)'):
      runs.conclude(run, tell=False)


def test_the_bank_of_a_sweep_holds_one_category_at_a_time(
  root, backbone, tmp_path, monkeypatch
):
  plans = []
  make_plan = planning.make_plan

  def noted(*args, **kwargs):
    plans.append(make_plan(*args, **kwargs))
    return plans[-1]

  monkeypatch.setattr(planning, 'make_plan', noted)
  configs = variants(root, backbone, engine_lanes=6)
  train.train_together(
    {n: (own, tmp_path / n) for n, own in configs.items()}, tmp_path
  )
  ((shift,),) = plans[0].rota
  assert shift.lanes == 2  # Seeds of one variant.
  assert shift.rows == max(SIZES.values()) + 6


def test_a_bank_too_small_for_the_largest_step_is_refused(
  root, backbone, tmp_path
):
  configs = variants(root, backbone, bank_device_gb=6.2e-6)
  configs['longer'].train.batch_size = 8
  with pytest.raises(ValueError, match='of 4 images, a step needs 8; raise'):
    train.train_together(
      {n: (own, tmp_path / n) for n, own in configs.items()}, tmp_path
    )
