import json
import re
import shutil
from concurrent import futures

import pytest

from simplenet_jax import workdir
from simplenet_jax.config import RESUMABLE, flatten
from simplenet_jax.data import dataset
from simplenet_jax.environment import Processes
from simplenet_jax.evaluation import results
from simplenet_jax.training.job import Job
from tests.small import make_categories, make_category, make_config, picture

FOUND = {'last': results.undefined(1)}
JOBS = [Job('part', seed, 5, 4, 3) for seed in (0, 1, 2)]


@pytest.fixture
def root(tmp_path):
  return make_categories(tmp_path / 'data', {'part': 5})


@pytest.fixture
def work(tmp_path):
  return tmp_path / 'work'


@pytest.fixture
def config(root):
  return make_config(root, 'some.safetensors')


@pytest.fixture
def opened(work, config):
  """Returns a function that takes the work directory, as a run does."""

  def opened(weights='abc123', **processes):
    categories = dataset.open_categories(config.data).categories
    return workdir.open_or_resume(
      work, config, weights, categories, Processes(**processes)
    )

  return opened


@pytest.fixture
def claim(opened):
  """Returns a function that takes and leaves it, and returns what it wrote."""

  def claim(weights='abc123'):
    with opened(weights) as one:
      return (one.path / 'run.json').read_bytes()

  return claim


def changed(value):
  """Returns another value of a setting's type."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, str):
    return f'{value}x'
  return (*value, 7) if isinstance(value, tuple) else value + 1


def test_before_there_was_a_setting_runs_did_as_reference(claim, config, work):
  noted = json.loads(claim())
  del noted['config']['train']['patches'], noted['config']['train']['schedule']
  (work / 'run.json').write_text(json.dumps(noted))
  claim()
  config.train.patches = 5
  (work / 'run.json').write_text(json.dumps(noted))
  with pytest.raises(ValueError, match=r'patches was 0, is 5'):
    claim()


def test_settings_that_are_gone_count_if_they_were_on(claim, work):
  noted = json.loads(claim())
  noted['config']['train']['average'] = 0.0
  (work / 'run.json').write_text(json.dumps(noted))
  claim()
  noted['config']['train']['average'] = 8.0
  (work / 'run.json').write_text(json.dumps(noted))
  with pytest.raises(ValueError, match=r'average was 8\.0, is None'):
    claim()


def test_what_differs_is_named_with_both_values(claim, config, root):
  claim()
  config.train.epochs, config.train.sigma = 2, 0.5
  make_category(root / 'new')
  shutil.rmtree(root / 'part')
  with pytest.raises(ValueError, match='work holds another run: ') as raised:
    claim('def456')
  for difference in (
    '--config.train.epochs was 3, is 2',
    '--config.train.sigma was 0.015, is 0.5',
    "the weights' sha256 was 'abc123', is 'def456'",
    'training images of new was None, is ',
    'is None;',
  ):
    assert difference in str(raised.value)
  assert str(raised.value).count(' was ') == 5


def test_places_and_free_settings_may_differ(claim, config, root, tmp_path):
  before = claim()
  assert claim() == before
  free = {
    field: changed(value)
    for field, value in flatten(config).items()
    if field.startswith(RESUMABLE) and not field.startswith('data.')
  }
  assert {'backbone.weights', 'engine.devices', 'evaluation.maps'} < set(free)
  config.update_from_flattened_dict(free)
  root.rename(tmp_path / 'moved')
  config.data.root = f'{tmp_path / "moved"}/'
  claim()


def test_every_other_setting_binds(work, config):
  def open_with(own):
    with workdir.open_or_resume(work, own, '', []):
      pass

  open_with(config)
  grows = ('seeds', 'train.epochs', 'train.min_steps')
  for field, value in flatten(config).items():
    if not field.startswith((*RESUMABLE, *grows)):
      other = config.copy_and_resolve_references()
      other.update_from_flattened_dict({field: changed(value)})
      with pytest.raises(ValueError, match=f'run: --config.{field} was '):
        open_with(other)


def test_other_seeds_and_pictures_are_the_same_run(config, opened):
  with opened() as one:
    one.take_up({JOBS[0]: 0, JOBS[1]: 3})
    assert one.note_end(JOBS[0]) is False
    assert one.note_end(JOBS[1], 'too large') is True
    one.note_result('part', FOUND)
    assert one.results() == {'part': FOUND}
  config.evaluation.maps = True
  with opened() as one:
    assert one.results() == {'part': FOUND}
  config.seeds = (0, 1, 2)
  with opened() as one:
    assert one.results() == {'part': None}
    one.take_up({JOBS[2]: 6})
    assert all(head['ended'] for head in one.heads()['part'].values())
  config.seeds = (1,)
  with opened() as one:
    assert one.heads()['part']['1']['error'] == 'too large'
  with opened(count=2, index=0):
    config.seeds = (1, 2)
    with pytest.raises(ValueError, match=r'seeds was \[1\], is \[1, 2\]'):
      opened(count=2, index=1).__enter__()


def test_what_was_trained_for_fewer_epochs_is_kept(claim, config, work):
  before = claim()
  (work / 'checkpoints/part/seed-0/3').mkdir(parents=True)
  config.train.epochs = 5
  claim()
  aside = work / 'of-3-epochs'
  assert (aside / 'checkpoints/part/seed-0/3').is_dir()
  assert (aside / 'run.json').read_bytes() == before
  assert not (work / 'checkpoints').exists()


def test_heads_that_left_out_other_parts_are_kept_aside(claim, config, work):
  config.train.folds, config.seeds = True, (0, 1, 2)
  claim()
  for seeds, aside in (
    ((0, 1), 'of-3-seeds'),
    ((0, 1, 2), 'of-2-seeds'),
    ((0, 1), 'of-3-seeds-later'),
  ):
    (work / 'checkpoints/part/seed-0/3').mkdir(parents=True)
    config.seeds = seeds
    claim()
    assert (work / aside / 'checkpoints/part/seed-0/3').is_dir()
    assert not (work / 'checkpoints').exists()


def test_other_training_images_are_another_run(claim, root, work):
  claim()
  picture(root / 'part/train/good/9.png')
  before = claim()  # They can be mended before a head was trained.
  (work / 'checkpoints/part/seed-0/3').mkdir(parents=True)
  picture(root / 'part/train/good/9.png', size=(64, 32))
  with pytest.raises(
    ValueError, match=r"run: training images of part was '\d.*, is '\d.*; set"
  ):
    claim()
  assert (work / 'run.json').read_bytes() == before


@pytest.mark.parametrize(
  ('name', 'is_scored'),
  [('test/good/9.png', False), ('ground_truth/spot/2_mask.png', True)],
)
def test_other_test_images_and_masks_are_evaluated_again(
  opened, root, name, is_scored
):
  with opened() as one:
    one.take_up(dict.fromkeys(JOBS[:2], 6))
    one.note_result('part', FOUND)
  picture(root / 'part' / name)
  with opened() as one:
    assert one.results() == {'part': None}
    scored = one.heads()['part']['0']['test']
    assert (scored == one.images['part']['test']) == is_scored


@pytest.mark.parametrize('given_up', [False, True])
def test_heads_under_way_have_scored_other_images(opened, root, given_up):
  with opened() as one:
    one.take_up({JOBS[0]: 0})
    if given_up:
      one.note_end(JOBS[0], 'too large')
  picture(root / 'part/test/good/9.png')
  with opened() as one:
    one.take_up({JOBS[0]: 3, JOBS[1]: 0})
    one.note_end(JOBS[0])
    heads = one.heads()['part']
    assert heads['0'] == {'test': workdir.MIXED, 'ended': True, 'error': None}
    assert heads['1']['test'] == one.images['part']['test']


def test_results_of_another_program_are_not_overwritten(claim, work):
  work.mkdir()
  (work / 'results.json').write_text('{}')
  with pytest.raises(ValueError, match='the results of another run; give ano'):
    claim()
  assert not (work / 'run.json').exists()


@pytest.mark.parametrize(
  'content', [b'{"config": 3', b'\xff\xfe', b'[]', b'{}']
)
def test_a_damaged_file_is_told_by_name(claim, work, content):
  claim()
  path = work / 'run.json'
  path.write_bytes(content)
  told = re.escape(f'{path}: damaged (')
  with pytest.raises(ValueError, match=told) as raised:
    claim()
  assert len(str(raised.value).splitlines()) == 1
  assert path.read_bytes() == content


@pytest.mark.parametrize(
  'more', [{'heads': None}, {'heads': {'part/0': 3}}, {'results': {'part': 3}}]
)
def test_so_is_one_whose_heads_or_results_are_damaged(opened, work, more):
  with opened() as one:
    path = work / 'run.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    with pytest.raises(ValueError, match=re.escape(f'{path}: damaged (')):
      one.take_up({JOBS[0]: 0})
      one.results()


@pytest.mark.parametrize(
  ('one', 'other'),
  [
    ({}, {}),
    ({'count': 3, 'index': 1}, {'count': 3, 'index': 1}),
    ({'count': 3, 'index': 1}, {}),
  ],
)
def test_a_directory_is_one_runs_at_a_time(opened, one, other):
  with (
    opened(**one),
    pytest.raises(ValueError, match='another run is at work in'),
  ):
    opened(**other).__enter__()


def test_processes_share_a_directory(opened, work):
  left = work / 'report/.partial-123-part.json'
  with opened(count=2, index=0) as first:
    left.parent.mkdir()
    left.write_text('{"half')
    with opened(count=2, index=1) as second:
      assert left.exists()  # The other one may be at it.
      first.take_up({JOBS[0]: 6})
      second.take_up({JOBS[1]: 0})
      assert second.note_end(JOBS[1])
      with first.evaluating('part') as is_free:
        assert is_free
        with second.evaluating('part') as is_free:
          assert not is_free
  with opened():
    assert not left.exists()


def test_threads_take_turns_where_there_are_no_locks(
  opened, work, monkeypatch, caplog
):
  def refuse(*_, **__):
    raise NotImplementedError

  monkeypatch.setattr(workdir.filelock.FileLock, 'acquire', refuse)
  jobs = [Job('part', seed, 5, 4, 3) for seed in range(40)]
  with opened() as one, futures.ThreadPoolExecutor(8) as pool:
    assert [*pool.map(lambda job: one.take_up({job: 3}), jobs)]
  noted = json.loads((work / 'run.json').read_text())['heads']
  assert noted.keys() == {f'part/{job.seed}' for job in jobs}
  assert caplog.text.count('cannot be locked') == 1
