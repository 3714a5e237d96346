import json
import re
import shutil

import pytest

from simplenet_jax import ledger
from simplenet_jax.config import RESUMABLE, flatten
from simplenet_jax.data import dataset
from tests.small import make_category, make_config, picture


@pytest.fixture
def root(tmp_path):
  make_category(tmp_path / 'data/part')
  return tmp_path / 'data'


@pytest.fixture
def config(root):
  return make_config(root, 'some.safetensors')


@pytest.fixture
def claim(tmp_path, config):
  """Returns a function that takes the work directory, as a run does."""

  def claim(weights='abc123'):
    categories = dataset.open_categories(config.data).categories
    return ledger.claim(tmp_path / 'work', config, weights, categories)

  return claim


def changed(value):
  """Returns another value of a setting's type."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, str):
    return f'{value}x'
  return (*value, 7) if isinstance(value, tuple) else value + 1


def test_a_fresh_directory_is_noted_down(claim, tmp_path):
  assert claim() is False
  (path,) = (tmp_path / 'work').iterdir()
  noted = json.loads(path.read_text())
  assert path.name == 'run.json'
  assert noted['--config.train.epochs'] == 3
  assert noted["the weights' sha256"] == 'abc123'
  assert 'images of part' in noted
  assert not any('engine' in field for field in noted)


def test_a_run_of_before_a_setting_did_as_the_reference_does(
  claim, config, tmp_path
):
  claim()
  path = tmp_path / 'work/run.json'
  noted = json.loads(path.read_text())
  del noted['--config.train.patches'], noted['--config.train.schedule']
  path.write_text(json.dumps(noted))
  assert claim() is True
  config.train.patches = 5
  path.write_text(json.dumps(noted))
  with pytest.raises(ValueError, match=r'patches was 0, is 5'):
    claim()


def test_the_same_run_is_taken_up_again(claim, tmp_path):
  claim()
  before = (tmp_path / 'work/run.json').read_bytes()
  assert claim() is True
  (tmp_path / 'work/results.json').touch()
  assert claim() is True
  assert (tmp_path / 'work/run.json').read_bytes() == before


def test_what_differs_is_named_with_both_values(claim, config):
  claim()
  config.train.epochs, config.seeds = 5, (0,)
  with pytest.raises(ValueError, match='work holds another run: ') as raised:
    claim('def456')
  for difference in (
    '--config.train.epochs was 3, is 5',
    '--config.seeds was [0, 1], is [0]',
    "the weights' sha256 was 'abc123', is 'def456'",
  ):
    assert difference in str(raised.value)
  assert str(raised.value).count(' was ') == 3


def test_free_settings_may_differ(claim, config):
  claim()
  free = {
    field: changed(value)
    for field, value in flatten(config).items()
    if field.startswith(RESUMABLE)
  }
  assert {'data.workers', 'engine.devices', 'evaluation.maps'} < set(free)
  config.update_from_flattened_dict(free)
  assert claim() is True


def test_every_other_setting_binds(tmp_path, config):
  work = tmp_path / 'work'
  ledger.claim(work, config, '', [])
  binding = [
    (field, value)
    for field, value in flatten(config).items()
    if not field.startswith(RESUMABLE)
  ]
  for field, value in binding:
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict({field: changed(value)})
    with pytest.raises(ValueError, match=f'run: --config.{field} was '):
      ledger.claim(work, other, '', [])


def rename(part):
  (part / 'train/good/0.png').rename(part / 'train/good/9.png')


def add(part):
  picture(part / 'train/good/9.png')


def resize(part):
  path = part / 'test/good/1.png'
  path.write_bytes(path.read_bytes() + b'\0')


def unmask(part):
  (part / 'ground_truth/spot/2_mask.png').unlink()


def relabel(part):
  (part / 'test/good/1.png').rename(part / 'test/spot/9.png')


@pytest.mark.parametrize('change', [rename, add, resize, unmask, relabel])
def test_other_images_are_noticed(claim, root, tmp_path, change):
  claim()
  (tmp_path / 'work/checkpoints/part/seed-0/3').mkdir(parents=True)
  before = (tmp_path / 'work/run.json').read_bytes()
  change(root / 'part')
  with pytest.raises(
    ValueError,
    match=r"run: images of part was '\d+ train, .*', is '\d+ train, .*'; set",
  ):
    claim()
  assert (tmp_path / 'work/run.json').read_bytes() == before


def test_images_can_be_mended_before_a_head_was_trained(claim, root):
  claim()
  picture(root / 'part/train/good/0.png', size=(44, 32))
  assert claim()
  assert claim()


def test_categories_that_come_or_go_are_named(claim, root):
  claim()
  make_category(root / 'new')
  shutil.rmtree(root / 'part')
  with pytest.raises(
    ValueError, match=r"images of new was None, is '.*'; .* was '.*', is None;"
  ):
    claim()


def test_results_without_a_ledger_are_not_overwritten(claim, tmp_path):
  (tmp_path / 'work').mkdir()
  (tmp_path / 'work/results.json').write_text('{}')
  with pytest.raises(
    ValueError, match='work holds the results of another run; give another'
  ):
    claim()
  assert not (tmp_path / 'work/run.json').exists()


@pytest.mark.parametrize(
  'content', [b'', b'{"--config.train.epochs": 3', b'\xff\xfe', b'[]', b'null']
)
def test_a_broken_ledger_is_told_by_name(claim, tmp_path, content):
  claim()
  path = tmp_path / 'work/run.json'
  path.write_bytes(content)
  with pytest.raises(
    ValueError, match=re.escape(f'{path}: not as a run leaves it')
  ) as raised:
    claim()
  assert len(str(raised.value).splitlines()) == 1
  assert path.read_bytes() == content


@pytest.fixture
def verify(tmp_path, config):
  """Returns a function that checks the work directory, as others do."""

  def verify(weights='abc123'):
    categories = dataset.open_categories(config.data).categories
    ledger.verify(tmp_path / 'work', config, weights, categories)

  return verify


def test_other_processes_accept_what_the_first_has_claimed(claim, verify):
  claim()
  verify()


def test_other_processes_refuse_to_do_something_else(
  claim, verify, config, root
):
  claim()
  with pytest.raises(ValueError, match=r"process 0: the weights' sha256 was"):
    verify('def456')
  picture(root / 'part/train/good/9.png')
  with pytest.raises(ValueError, match=r'images of part was .* is '):
    verify()
  (root / 'part/train/good/9.png').unlink()
  config.train.sigma = 0.5
  with pytest.raises(ValueError, match=r'sigma was 0.015, is 0.5'):
    verify()


def test_a_directory_that_is_not_shared_is_told(verify, monkeypatch):
  monkeypatch.setattr(ledger, '_LOOKS', 1)
  with pytest.raises(ValueError, match='on storage that all processes share'):
    verify()


def test_a_directory_is_one_runs_at_a_time(tmp_path):
  with (
    ledger.held(tmp_path / 'work'),
    pytest.raises(ValueError, match='another run is at work in'),
    ledger.held(tmp_path / 'work'),
  ):
    pass
  left = tmp_path / 'work/report/.partial-123-part.json'
  left.parent.mkdir()
  left.write_text('{"half')
  with ledger.held(tmp_path / 'work'):
    assert not left.exists()


def test_where_there_are_no_locks_that_is_told(tmp_path, monkeypatch, capsys):
  def refuse(*_, **__):
    raise NotImplementedError

  monkeypatch.setattr(ledger.filelock.FileLock, 'acquire', refuse)
  with ledger.held(tmp_path / 'work'):
    pass
  assert 'cannot be locked' in capsys.readouterr().out
