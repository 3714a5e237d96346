"""Schedules that fit a time."""

import json

import pytest

from simplenet_jax import train
from simplenet_jax.environment import Processes
from simplenet_jax.training import budget
from tests.small import make_categories, make_config


@pytest.fixture
def config(tmp_path, backbone):
  make_categories(tmp_path / 'data', {'part': 6})
  config = make_config(tmp_path / 'data', backbone)
  config.seeds, config.train.epochs, config.train.minutes = (0, 1), 10, 1.0
  return config


def schedule(work):
  found = json.loads((work / 'results.json').read_text())['config']['train']
  return found['epochs'], found['min_steps']


def test_a_run_that_goes_on_keeps_the_schedule_that_fitted(
  config, tmp_path, monkeypatch, capsys
):
  # 20 epochs of both heads, of two steps each, in 60 seconds.
  steps = -(-6 // config.train.batch_size)
  took = 60 / (2 * 5 * steps)
  monkeypatch.setattr(budget, 'step_seconds', lambda *_: took)
  config.train.min_steps = 8 * steps
  train.train_and_evaluate(config, tmp_path / 'work')
  assert schedule(tmp_path / 'work') == (5, 4 * steps)
  assert 'heads train for 50% of it' in capsys.readouterr().out
  monkeypatch.setattr(budget, 'step_seconds', lambda *_: took / 2)
  train.train_and_evaluate(config, tmp_path / 'work')
  assert schedule(tmp_path / 'work') == (5, 4 * steps)
  # With another time it is fitted anew, and what was trained is kept aside.
  config.train.minutes = 10.0
  train.train_and_evaluate(config, tmp_path / 'work')
  assert schedule(tmp_path / 'work') == (10, 8 * steps)
  assert (tmp_path / 'work/of-5-epochs/results.json').exists()


def test_an_epoch_that_takes_longer_is_told(
  config, tmp_path, monkeypatch, caplog
):
  monkeypatch.setattr(budget, 'step_seconds', lambda *_: 1000.0)
  train.train_and_evaluate(config, tmp_path / 'work')
  assert schedule(tmp_path / 'work') == (1, 0)
  assert 'a single epoch of all heads takes' in caplog.text


def test_a_step_is_measured(config, tmp_path):
  config.train.minutes = 60.0
  train.train_and_evaluate(config, tmp_path / 'work')
  assert schedule(tmp_path / 'work') == (10, 0)


def test_processes_would_measure_different_times(config, tmp_path):
  with pytest.raises(ValueError, match='is for one process'):
    train.train_and_evaluate(config, tmp_path / 'work', Processes(0, 2))
