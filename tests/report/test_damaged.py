"""What a run left, damaged: a page all the same, or a line that names it."""

import json
import random
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzzing import values
from simplenet_jax import train
from simplenet_jax.report import page
from tests.small import make_category, make_config

many = settings(
  max_examples=25,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope='module')
def run(tmp_path_factory, backbone):
  """A run of one category, smaller than that of the other tests."""
  root = tmp_path_factory.mktemp('data')
  make_category(root / 'gear')
  config = make_config(root, backbone)
  config.seeds, config.train.epochs = (0,), 1
  workdir = tmp_path_factory.mktemp('work') / 'run'
  return config, workdir, train.train_and_evaluate(config, workdir)


@pytest.fixture(scope='module')
def copy(run, tmp_path_factory):
  folder = tmp_path_factory.mktemp('copy') / 'run'
  shutil.copytree(run[1], folder)
  return folder


def assert_written_or_refused(write, output, damaged):
  output.unlink(missing_ok=True)
  try:
    write()
  except ValueError as error:
    assert str(damaged) in str(error)
    assert len(str(error).splitlines()) == 1
    assert not output.exists()
  else:
    assert output.read_text().rstrip().endswith('</html>')


@many
@given(st.integers(0, 2**32))
def test_results(run, copy, tmp_path, seed):
  whole = json.loads((run[1] / 'results.json').read_text())
  path, output = copy / 'results.json', tmp_path / 'page.html'
  path.write_text(json.dumps(values.spoiled(random.Random(seed), whole)))
  assert_written_or_refused(
    lambda: page.write(copy, output=output), output, path
  )
  assert_written_or_refused(
    lambda: page.write(run[1], copy, output=output), output, copy
  )


@pytest.mark.parametrize('key', ['device', 'config', 'categories'])
def test_a_part_of_another_kind(run, copy, tmp_path, key):
  whole = json.loads((run[1] / 'results.json').read_text())
  (copy / 'results.json').write_text(json.dumps({**whole, key: '~'}))
  for write in (
    lambda: page.write(copy, output=tmp_path / 'page.html'),
    lambda: page.write(run[1], copy, output=tmp_path / 'page.html'),
  ):
    with pytest.raises(ValueError, match=r'results\.json: damaged'):
      write()


@pytest.mark.parametrize(
  ('pattern', 'content'),
  [
    ('results.json', '[' * 100_000),
    ('detectors/gear.safetensors', 'no detector'),
    ('report/gear.json', '[' * 100_000),
    ('report/gear.json', '{"scores": 3}'),
  ],
)
def test_the_file_that_is_damaged_is_named(run, tmp_path, pattern, content):
  copy = tmp_path / 'run'
  shutil.copytree(run[1], copy)
  (copy / pattern).write_text(content)
  with pytest.raises(ValueError, match=rf'^\S+/{pattern}: '):
    page.write(copy)
