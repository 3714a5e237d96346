import json
import re
import shutil

import pytest

from simplenet_jax import workdir
from simplenet_jax.config import RESUMABLE, flatten
from simplenet_jax.data import dataset
from simplenet_jax.environment import Processes
from tests.small import make_category, make_config, picture


@pytest.fixture
def root(tmp_path):
  make_category(tmp_path / 'data/part')
  return tmp_path / 'data'


@pytest.fixture
def config(root):
  return make_config(root, 'some.safetensors')


@pytest.fixture
def opened(tmp_path, config):
  """Returns a function that takes the work directory, as a run does."""

  def opened(weights='abc123', **processes):
    categories = dataset.open_categories(config.data).categories
    return workdir.open_or_resume(
      tmp_path / 'work', config, weights, categories, Processes(**processes)
    )

  return opened


@pytest.fixture
def claim(opened):
  """Returns a function that does so and says whether the run had begun."""

  def claim(weights='abc123'):
    with opened(weights) as work:
      return work.resumed

  return claim


def changed(value):
  """Returns another value of a setting's type."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, str):
    return f'{value}x'
  return (*value, 7) if isinstance(value, tuple) else value + 1


def train_a_head(tmp_path):
  (tmp_path / 'work/checkpoints/part/seed-0/3').mkdir(parents=True)


def test_the_same_run_is_taken_up_again(claim, tmp_path):
  assert claim() is False
  before = (tmp_path / 'work/run.json').read_bytes()
  assert claim() is True
  (tmp_path / 'work/results.json').touch()
  assert claim() is True
  assert (tmp_path / 'work/run.json').read_bytes() == before


def test_a_run_of_before_a_setting_did_as_the_reference_does(
  claim, config, tmp_path
):
  claim()
  path = tmp_path / 'work/run.json'
  noted = json.loads(path.read_text())
  del noted['config']['train']['patches'], noted['config']['train']['schedule']
  path.write_text(json.dumps(noted))
  assert claim() is True
  config.train.patches = 5
  path.write_text(json.dumps(noted))
  with pytest.raises(ValueError, match=r'patches was 0, is 5'):
    claim()


def test_what_differs_is_named_with_both_values(claim, config):
  claim()
  config.train.epochs, config.train.sigma = 2, 0.5
  with pytest.raises(ValueError, match='work holds another run: ') as raised:
    claim('def456')
  for difference in (
    '--config.train.epochs was 3, is 2',
    '--config.train.sigma was 0.015, is 0.5',
    "the weights' sha256 was 'abc123', is 'def456'",
  ):
    assert difference in str(raised.value)
  assert str(raised.value).count(' was ') == 3


def test_where_images_and_weights_lie_and_free_settings_may_differ(
  claim, config, root, tmp_path
):
  claim()
  free = {
    field: changed(value)
    for field, value in flatten(config).items()
    if field.startswith(RESUMABLE) and not field.startswith('data.')
  }
  assert {'backbone.weights', 'engine.devices', 'evaluation.maps'} < set(free)
  config.update_from_flattened_dict(free)
  root.rename(tmp_path / 'moved')
  config.data.root = f'{tmp_path / "moved"}/'
  assert claim() is True


def test_every_other_setting_binds(tmp_path, config):
  def open_with(own):
    with workdir.open_or_resume(tmp_path / 'work', own, '', []):
      pass

  open_with(config)
  grows = ('seeds', 'train.epochs', 'train.min_steps')
  for field, value in flatten(config).items():
    if not field.startswith((*RESUMABLE, *grows)):
      other = config.copy_and_resolve_references()
      other.update_from_flattened_dict({field: changed(value)})
      with pytest.raises(ValueError, match=f'run: --config.{field} was '):
        open_with(other)


def test_other_seeds_are_the_same_run(config, opened):
  with opened() as work:
    assert work.note_head('part', 0) is False
    assert work.note_head('part', 1) is True
    work.note_result('part', {'last': {}})
    assert work.results()['part'] == {'last': {}}
  config.seeds = (0, 1, 2)
  with opened() as work:
    assert work.results()['part'] is None
    assert work.note_head('part', 2) is True
  config.seeds = (1,)
  with opened() as work:
    assert list(work.complete()['part']) == ['1']
  with opened(count=2, index=0):
    config.seeds = (1, 2)
    with (
      pytest.raises(ValueError, match=r'seeds was \[1\], is \[1, 2\]'),
      opened(count=2, index=1),
    ):
      pass


def test_what_was_trained_for_fewer_epochs_is_kept(claim, config, tmp_path):
  claim()
  train_a_head(tmp_path)
  config.train.epochs = 5
  assert claim() is True
  assert (tmp_path / 'work/of-3-epochs/checkpoints/part/seed-0/3').is_dir()
  assert not (tmp_path / 'work/checkpoints').exists()


@pytest.mark.parametrize('name', ['train/good/0.png', 'train/good/9.png'])
def test_other_training_images_are_another_run(claim, root, tmp_path, name):
  claim()
  picture(root / 'part' / name, size=(44, 32))
  assert claim()  # They can be mended before a head was trained.
  train_a_head(tmp_path)
  before = (tmp_path / 'work/run.json').read_bytes()
  picture(root / 'part' / name, size=(64, 32))
  picture(root / 'part/train/good/10.png')
  with pytest.raises(
    ValueError, match=r"run: training images of part was '\d.*', is '\d.*; set"
  ):
    claim()
  assert (tmp_path / 'work/run.json').read_bytes() == before


def add_image(part):
  picture(part / 'test/good/9.png')


def relabel(part):
  (part / 'test/good/1.png').rename(part / 'test/spot/9.png')


def unmask(part):
  (part / 'ground_truth/spot/2_mask.png').unlink()


def correct_mask(part):
  path = part / 'ground_truth/spot/2_mask.png'
  content = path.read_bytes()
  path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
  ('change', 'is_scored'),
  [
    (add_image, False),
    (relabel, False),
    (unmask, True),
    (correct_mask, True),
  ],
)
def test_other_test_images_and_masks_are_evaluated_again(
  opened, root, tmp_path, change, is_scored
):
  with opened() as work:
    for seed in (0, 1):
      work.note_head('part', seed)
    work.note_result('part', {'last': {}})
  change(root / 'part')
  with opened() as work:
    assert work.results() == {'part': None}
    heads = work.complete()['part']
    assert work.scored('part', heads['0']) == is_scored


@pytest.mark.parametrize('given_up', [False, True])
def test_heads_under_way_have_scored_other_images(
  opened, root, tmp_path, given_up
):
  with opened() as work:
    train_a_head(tmp_path)
    if given_up:
      work.note_head('part', 0, 'too large')
  add_image(root / 'part')
  with opened() as work:
    work.take_up({('part', 0): True})
    assert work.heads()['part'] == {'0': {'mixed': True}, '1': {}}
    work.note_head('part', 0)
    assert work.heads()['part']['0']['mixed']


def test_categories_that_come_or_go_are_named(claim, root):
  claim()
  make_category(root / 'new')
  shutil.rmtree(root / 'part')
  with pytest.raises(
    ValueError, match=r"images of new was None, is '.*'; .* was '.*', is None;"
  ):
    claim()


def test_results_of_another_program_are_not_overwritten(claim, tmp_path):
  (tmp_path / 'work').mkdir()
  (tmp_path / 'work/results.json').write_text('{}')
  with pytest.raises(
    ValueError, match='work holds the results of another run; give another'
  ):
    claim()
  assert not (tmp_path / 'work/run.json').exists()


@pytest.mark.parametrize(
  'content', [b'', b'{"config": 3', b'\xff\xfe', b'[]', b'null', b'{}']
)
def test_a_damaged_file_is_told_by_name(claim, tmp_path, content):
  claim()
  path = tmp_path / 'work/run.json'
  path.write_bytes(content)
  with pytest.raises(
    ValueError, match=re.escape(f'{path}: not as a run leaves it')
  ) as raised:
    claim()
  assert len(str(raised.value).splitlines()) == 1
  assert path.read_bytes() == content


def test_a_directory_is_one_runs_at_a_time(opened, tmp_path):
  for one, other in (
    ({}, {}),
    ({'count': 3, 'index': 1}, {'count': 3, 'index': 1}),
    ({'count': 3, 'index': 1}, {}),
  ):
    with (
      opened(**one),
      pytest.raises(ValueError, match='another run is at work in'),
      opened(**other),
    ):
      pass


def test_processes_share_a_directory(opened, tmp_path):
  left = tmp_path / 'work/report/.partial-123-part.json'
  with opened(count=2, index=0) as first:
    left.parent.mkdir()
    left.write_text('{"half')
    with opened(count=2, index=1) as second:
      assert left.exists()  # The other one may be at it.
      first.note_head('part', 0)
      assert second.note_head('part', 1)
      with first.evaluating('part') as free:
        assert free
        with second.evaluating('part') as free:
          assert not free
  with opened():
    assert not left.exists()


def test_where_there_are_no_locks_that_is_told(claim, monkeypatch, caplog):
  def refuse(*_, **__):
    raise NotImplementedError

  monkeypatch.setattr(workdir.filelock.FileLock, 'acquire', refuse)
  claim()
  assert caplog.text.count('cannot be locked') == 1


def test_what_another_machine_wrote_is_waited_for(monkeypatch, capsys):
  monkeypatch.setattr(workdir.time, 'sleep', lambda _: None)
  looks = iter([None, None, 'there'])
  assert workdir.wait_for(lambda: next(looks), 'a file') == 'there'
  assert capsys.readouterr().out.count('waits for a file') == 1
  assert workdir.wait_for(lambda: None, 'a file') is None
