"""Whole runs, small: every kind of folder in, every kind of result out."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import mvtec
from simplenet_jax import train
from simplenet_jax.config import from_protocol
from simplenet_jax.data import dataset, files, folder, inputs
from simplenet_jax.detection import assembly
from simplenet_jax.detection.thresholds import NONE
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import testset
from simplenet_jax.models import simplenet
from simplenet_jax.training import layout
from simplenet_jax.training.checkpoint import Checkpoints
from simplenet_jax.training.progress import HeadProgress
from tests.small import make_category, make_config, picture, spoil


@pytest.fixture
def config(tmp_path, backbone):
  return make_config(tmp_path / 'data', backbone)


class Finished(NamedTuple):
  config: ConfigDict
  work: Path
  error: str
  told: str

  @property
  def stored(self):
    return json.loads((self.work / 'results.json').read_text())

  def last(self, name):
    return self.stored['categories'][name]['last']


@pytest.fixture(scope='module')
def finished(tmp_path_factory, backbone):
  """One run over every kind of folder; one of them holds a corrupt image."""
  folder = tmp_path_factory.mktemp('run')
  root = folder / 'data'
  for name in ('bad', 'no_defects', 'no_masks', 'only_good', 'part'):
    make_category(root / name)
  make_category(root / 'tall', size=(32, 70))
  shutil.rmtree(root / 'no_masks/ground_truth')
  shutil.rmtree(root / 'no_defects/ground_truth')
  shutil.rmtree(root / 'no_defects/test/spot')
  shutil.rmtree(root / 'only_good/test')
  shutil.rmtree(root / 'only_good/ground_truth')
  spoil(root / 'bad/train/good/2.png')
  config = make_config(root, backbone)
  config.evaluation.maps = True
  told = io.StringIO()
  with (
    contextlib.redirect_stdout(told),
    pytest.raises(ValueError, match='categories failed') as raised,
  ):
    train.train_and_evaluate(config, folder / 'work')
  return Finished(config, folder / 'work', str(raised.value), told.getvalue())


def test_a_run_leaves_results(finished):
  names = ['no_defects', 'no_masks', 'only_good', 'part', 'tall']
  assert list(finished.stored['categories']) == names
  for name in ('part', 'tall'):
    last = finished.last(name)
    assert len(last['image_auroc']['seeds']) == 2
    assert 0 <= last['pixel_auroc']['mean'] <= 1
    assert finished.stored['selected_on_test'][name]['epochs'][0] in (2, 3)
  wall = finished.stored['wall_seconds']
  assert wall['train and score'] > 0
  assert wall['of which compilation'] > 0
  assert finished.stored['config'] == json.loads(
    json.dumps(finished.config.to_dict())
  )
  assert '\npart,' in (finished.work / 'results.csv').read_text()
  assert '| part ' in (finished.work / 'results.md').read_text()
  assert not list(finished.work.rglob('.partial*'))


def test_a_run_says_what_it_does(finished):
  assert '6 categories x 2 seeds, 3 epochs' in finished.told
  assert (
    'part: 5 train, 6 test (3 defective, 3 masks), input 32 x 40'
    in finished.told
  )
  assert 'I-AUROC' in finished.told


def test_a_run_leaves_pictures_and_curves(finished):
  for name in ('part', 'tall'):
    sheet = Image.open(finished.work / f'pictures/{name}.png')
    assert np.asarray(sheet).std() > 0
    with (finished.work / f'curves/{name}.csv').open() as file:
      rows = list(csv.DictReader(file))
    assert [(r['seed'], r['epoch']) for r in rows] == [
      (seed, epoch) for seed in '01' for epoch in '123'
    ]
    assert all(float(row['loss']) > 0 for row in rows)
  assert (finished.work / 'curves/only_good.png').exists()


def test_a_head_that_has_not_learned_is_told_everywhere(finished):
  # Three epochs on five images teach nothing.
  for name in ('only_good', 'part'):
    first, second = finished.stored['categories'][name]['cautions']
    assert f'{name}: the head of seed 0 has not learned' in first
    assert 'the head of seed 1 has not learned' in second
    assert f'Warning: {first}.' in (finished.work / 'results.md').read_text()
    assert f'Warning: {first}.' in (finished.work / 'report.html').read_text()


def test_maps_are_in_the_original_frame(finished):
  heat = np.asarray(Image.open(finished.work / 'maps/tall/test/spot/0.tiff'))
  assert heat.dtype == np.float32
  assert heat.shape == (70, 32)
  assert np.isfinite(heat).all()


def test_what_cannot_be_measured_is_undefined(finished):
  assert finished.last('only_good')['image_auroc']['mean'] is None
  assert 'only_good: no test images, nothing to evaluate' in finished.told
  assert finished.last('no_defects')['image_auroc']['mean'] is None
  selected = finished.stored['selected_on_test']['no_defects']
  assert selected['epochs'] == [None, None]
  assert finished.last('no_masks')['image_auroc']['mean'] is not None
  assert finished.last('no_masks')['pixel_auroc']['mean'] is None
  assert finished.last('no_masks')['aupro_30']['seeds'] == [None, None]


def test_a_corrupt_image_loses_only_its_category(finished):
  assert '1 of 6 categories failed (bad)' in finished.error
  assert 'bad/train/good/2.png' in finished.error
  assert 'bad/train/good/2.png' in finished.told


def test_a_category_alone_gives_the_same_figures(finished, tmp_path):
  config = finished.config.copy_and_resolve_references()
  config.data.categories = ('part',)
  table = train.train_and_evaluate(config, tmp_path / 'work')
  assert table['categories']['part']['last'] == finished.last('part')


def trained(config, work, name):
  """Returns a category's test images and its heads' last patch scores."""
  config = config.copy_and_resolve_references()
  config.data.categories = (name,)
  (one,) = dataset.open_categories(config.data).categories
  checkpoints = Checkpoints(work / 'checkpoints')
  records = [
    checkpoints.load(job)[0] for job in layout.make_jobs(config, [one])
  ]
  checkpoints.close()
  return one, [record.scores[record.job.epochs] for record in records]


def test_a_run_leaves_detectors_that_score_as_its_heads(finished):
  one, patch_scores = trained(finished.config, finished.work, 'part')
  assert len(patch_scores) == 2
  together = np.mean(patch_scores, axis=0)
  maps = np.asarray(simplenet.anomaly_maps(together, one.size, 4.0))
  allowed = 1e-5 * float(np.ptp(together))
  # One head alone, or the mean of maxima, would be something else.
  for other in (*patch_scores, np.mean(patch_scores, 0) + np.ptp(together)):
    assert np.abs(other.max((1, 2)) - together.max((1, 2))).max() > 10 * allowed
  detector = Detector.load(finished.work / 'detectors' / 'part')
  assert detector.heads == 2
  found = list(detector.predict([s.path for s in one.category.test]))
  for image, heat, patches in zip(found, maps, together, strict=True):
    assert image.score == pytest.approx(float(patches.max()), abs=allowed)
    np.testing.assert_allclose(image.input_map, heat, rtol=0, atol=allowed)


def test_every_category_that_was_trained_has_its_detector(finished):
  found = sorted(p.name for p in (finished.work / 'detectors').iterdir())
  assert found == [
    f'{name}.safetensors'
    for name in ('no_defects', 'no_masks', 'only_good', 'part', 'tall')
  ]
  assert f'Detectors: {finished.work}/detectors/' in finished.told


def test_nothing_held_out_gives_no_thresholds(finished):
  detector = Detector.load(finished.work / 'detectors' / 'tall')
  assert detector.thresholds == NONE
  assert detector.size == (70, 32)
  assert 'threshold' not in finished.told


def test_a_detector_tells_where_it_comes_from(finished):
  for name in ('only_good', 'part'):
    card = Detector.load(finished.work / 'detectors' / name).card
    assert card.name == name
    told = card.provenance
    stored = finished.stored['config']
    # No folder of the machine.
    stored['data']['root'] = Path(stored['data']['root']).name
    stored['backbone']['weights'] = Path(stored['backbone']['weights']).name
    assert told['config'] == stored
    assert told['protocol'] == finished.stored['protocol']
    stored = finished.stored['weights']
    assert told['weights'] == {
      'name': Path(stored['name']).name,
      'sha256': stored['sha256'],
    }
    assert len(told['weights']['sha256']) == 64
    assert told['seeds'] == [0, 1]
    assert told['versions'] == finished.stored['versions']
    assert told['device'] == finished.stored['device']
    assert told['data']['root'] == Path(finished.config.data.root).name
    run = json.loads((finished.work / 'run.json').read_text())
    assert run['images'][name]['training'] in told['data']['images']


class HeldOut(NamedTuple):
  config: ConfigDict
  work: Path
  told: list[str]


@pytest.fixture(scope='module')
def held_out(tmp_path_factory, backbone):
  """Two categories with images held out; detectors only when it is resumed."""
  top = tmp_path_factory.mktemp('held_out')
  for name in ('cog', 'part'):
    make_category(top / 'data' / name, train=12)
  config = make_config(top / 'data', backbone)
  config.data.held_out, config.data.held_out_least = 0.1, 3
  config.engine.lanes = 1  # A head is the same in other company.
  config.evaluation.pictures = 0
  told = []
  for save in (False, True):
    config.detector.save = save
    with contextlib.redirect_stdout(io.StringIO()) as output:
      train.train_and_evaluate(config, top / 'work')
    told.append(output.getvalue())
    assert (top / 'work/detectors').exists() == save
  return HeldOut(config, top / 'work', told)


def test_a_finished_run_makes_detectors_of_its_checkpoints(held_out):
  told = held_out.told[1]
  assert 'resumes   4 heads finished, 0 under way' in told
  assert f'Detectors: {held_out.work}/detectors/' in told
  one, patch_scores = trained(held_out.config, held_out.work, 'part')
  together = np.mean(patch_scores, axis=0)
  detector = Detector.load(held_out.work / 'detectors' / 'part')
  found = detector.predict([s.path for s in one.category.test])
  for image, patches in zip(found, together, strict=True):
    assert image.score == pytest.approx(
      float(patches.max()), abs=1e-5 * float(np.ptp(together))
    )


def test_only_missing_detectors_are_made_again(held_out):
  folder = held_out.work / 'detectors'
  cog, part = (folder / f'{name}.safetensors' for name in ('cog', 'part'))
  before = Detector.load(part)
  part.unlink()
  changed = Detector.load(cog)
  changed.thresholds = NONE.replace(image=0.25)
  changed.save(cog)
  kept = cog.read_bytes()
  with contextlib.redirect_stdout(io.StringIO()) as output:
    train.train_and_evaluate(held_out.config, held_out.work)
  assert cog.read_bytes() == kept
  again = Detector.load(part)
  assert again.card == before.card
  for name, value in before.weights.items():
    np.testing.assert_array_equal(again.weights[name], value)
  assert '  part: threshold ' in output.getvalue()
  assert '  cog: threshold ' not in output.getvalue()


def test_held_out_images_set_thresholds_that_are_told(held_out):
  one, _ = trained(held_out.config, held_out.work, 'part')
  held = one.category.validation
  assert len(held) == 3
  detector = Detector.load(held_out.work / 'detectors' / 'part')
  found = list(detector.predict(held))
  limits = detector.thresholds
  # Three images cannot promise one in a hundred: the highest ones it is.
  assert limits.image == pytest.approx(max(p.score for p in found), abs=1e-6)
  peak = max(p.input_map.max() for p in found)
  assert limits.pixel == pytest.approx(peak, abs=1e-6)
  assert limits.images == 3
  assert limits.guaranteed_rate == pytest.approx(1 / 4)
  assert not any(p.anomalous for p in found)
  assert {name for name, _ in limits.limiting_images} <= {
    path.name for path in held
  }
  assert 'part: 9 train, 3 held out, 6 test' in held_out.told[0]
  assert (
    f'  part: threshold {limits.image:.4g} from 3 good images\n'
  ) in held_out.told[1]


def test_held_out_images_are_not_trained_on(held_out, tmp_path):
  """A run that has them in validation/good alone is the same."""
  root = Path(held_out.config.data.root)
  (before,) = folder.find(root, ['part']).categories
  held = dataset.hold_out(before, 0.1, 3).validation
  shutil.copytree(root / 'part', tmp_path / 'data' / 'part')
  (tmp_path / 'data/part/validation/good').mkdir(parents=True)
  for path in held:
    moved = tmp_path / 'data' / path.relative_to(root)
    moved.rename(tmp_path / 'data/part/validation/good' / path.name)
  config = held_out.config.copy_and_resolve_references()
  config.data.root, config.data.held_out = str(tmp_path / 'data'), 0.0
  run(config, tmp_path)
  expected = Detector.load(held_out.work / 'detectors' / 'part')
  found = Detector.load(tmp_path / 'work' / 'detectors' / 'part')
  for name, value in expected.weights.items():
    np.testing.assert_array_equal(found.weights[name], value, err_msg=name)
  for field in ('image', 'pixel', 'median', 'images', 'guaranteed_rate'):
    assert getattr(found.thresholds, field) == getattr(
      expected.thresholds, field
    )


def run(config, tmp_path):
  return train.train_and_evaluate(config, tmp_path / 'work')


def test_scores_that_are_not_finite_in_the_end_cost_one_head(
  config, tmp_path, monkeypatch, capsys
):
  add_scores = HeadProgress.add_scores

  def overflowing(self, epoch, scores):
    if (self.job.category, self.job.seed) == ('cog', 1):
      scores = scores + np.inf
    add_scores(self, epoch, scores)

  assemble, cautions = assembly.assemble, {}

  def noted(config, name, *others, **more):
    cautions[name] = more['cautions']
    return assemble(config, name, *others, **more)

  monkeypatch.setattr(HeadProgress, 'add_scores', overflowing)
  monkeypatch.setattr(assembly, 'assemble', noted)
  for name in ('cog', 'part'):
    make_category(tmp_path / 'data' / name)
  config.train.epochs = 1
  for _ in range(2):  # Started again it does the same.
    with pytest.raises(ValueError, match=r'1 of 2 categories failed \(cog\)'):
      run(config, tmp_path)
    told = capsys.readouterr().out
    assert told.count('error: ') == 1
    assert 'cog: scores of seed 1 are not finite after epoch 1' in told
    stored = json.loads((tmp_path / 'work/results.json').read_text())
    assert list(stored['categories']) == ['cog', 'part']
    (one, other) = stored['categories']['cog']['last']['image_auroc']['seeds']
    assert 0 <= one <= 1
    assert other is None
    heads = {
      name: Detector.load(tmp_path / 'work/detectors' / name).heads
      for name in ('cog', 'part')
    }
    assert heads == {'cog': 1, 'part': 2}
  # One epoch teaches nothing, and the detectors know of their own heads.
  assert {name: len(of_heads) for name, of_heads in cautions.items()} == heads
  for name, of_heads in cautions.items():
    assert stored['categories'][name]['cautions'] == of_heads
    assert f'{name}: the head of seed 0 has not learned' in of_heads[0]


@pytest.mark.parametrize(
  'error',
  [
    RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes'),
    MemoryError('Unable to allocate 9 GiB'),
  ],
)
def test_memory_that_is_short_in_the_end_costs_one_category(
  config, tmp_path, monkeypatch, error
):
  read = testset.TestSet.read

  def short(inputs, smoothing):
    if inputs.name == 'cog':
      raise error
    return read(inputs, smoothing)

  monkeypatch.setattr(testset.TestSet, 'read', short)
  for name in ('cog', 'part'):
    make_category(tmp_path / 'data' / name)
  config.train.epochs, config.seeds = 1, (0,)
  with pytest.raises(
    ValueError,
    match=r'failed \(cog\); .*out of memory .*--config.bank.device_gb',
  ):
    run(config, tmp_path)
  stored = json.loads((tmp_path / 'work/results.json').read_text())
  assert list(stored['categories']) == ['part']
  assert Detector.load(tmp_path / 'work/detectors/part').heads == 1


def test_the_crop_leaves_the_rest_unscored(config, tmp_path, caplog):
  make_category(tmp_path / 'part', size=(80, 40))
  config.data.root = str(tmp_path / 'part')  # The root is the category.
  config.data.crop = 32
  config.train.epochs = 2
  config.evaluation.maps = True
  assert list(run(config, tmp_path)['categories']) == ['part']
  one, patch_scores = trained(config, tmp_path / 'work', 'part')
  together = np.mean(patch_scores, axis=0)
  maps = np.asarray(simplenet.anomaly_maps(together, one.size, 4.0))
  path = tmp_path / 'work/maps/part/test/good/0.tiff'
  with Image.open(path) as image:
    assert image.info['compression'] == 'tiff_adobe_deflate'
    heat = np.asarray(image)
  assert heat.shape == (40, 80)
  # Resized by .8, the 64 x 32 image keeps its middle 32 columns. What is not
  # seen is as little anomalous as anything, and the rest the mean over seeds.
  expected = one.test[0].map_to_original(maps[0])
  unseen = np.isnan(expected)
  assert unseen[:, :19].all() and unseen[:, 61:].all()
  np.testing.assert_array_equal(heat[unseen], maps[0].min())
  np.testing.assert_allclose(heat[~unseen], expected[~unseen], atol=1e-5)
  told = [r.getMessage() for r in caplog.records if 'unscored' in r.message]
  assert told == [
    "part: the crop leaves 50 % of the maps' pixels unscored; they are written "
    "as the map's lowest score"
  ]


def test_masks_that_tell_nothing_and_broken_images_are_counted(
  config, tmp_path
):
  make_category(tmp_path / 'data/part')
  masks_ = tmp_path / 'data/part/ground_truth/spot'
  Image.new('L', (7, 9)).save(masks_ / '0_mask.png')
  (masks_ / '1_mask.png').write_bytes(b'')
  (tmp_path / 'data/part/train/good/2.png').write_bytes(b'')
  table = run(config, tmp_path)
  part = table['categories']['part']
  assert part['pixels'] == {
    'images': 4,
    'of': 6,
    'left_out': {inputs.OTHER_SIZE: 1, inputs.UNREADABLE: 1},
  }
  assert part['last']['pixel_auroc']['mean'] is not None
  left_out = [row for row in table['files'] if row['left_out']]
  assert left_out == [
    {
      'use': files.UNREADABLE,
      'count': 1,
      'example': 'part/train/good/2.png',
      'left_out': True,
    }
  ]
  shown = (tmp_path / 'work/report.html').read_text()
  assert 'over 4 of 6 images' in shown
  assert files.UNREADABLE in shown


def test_a_category_called_as_the_mean_is_refused(config, tmp_path):
  make_category(tmp_path / 'data/mean')
  with pytest.raises(ValueError, match="category is called 'mean'"):
    run(config, tmp_path)


def test_numbers_brackets_and_dollars_name_categories(config, tmp_path, capsys):
  for name in ('1', '2', '[red] $x_$'):
    make_category(tmp_path / 'data' / name)
  config.data.categories = ('1', '[red] $x_$')
  config.train.epochs = 1
  assert set(run(config, tmp_path)['categories']) == {'1', '[red] $x_$'}
  assert '[red] $x_$: 5 train' in capsys.readouterr().out


def test_images_that_differ_in_suffix_keep_their_maps(config, tmp_path):
  make_category(tmp_path / 'data/part')
  picture(tmp_path / 'data/part/test/good/0.bmp')
  config.train.epochs = 1
  config.evaluation.maps = True
  run(config, tmp_path)
  maps = sorted(p.name for p in (tmp_path / 'work/maps/part').rglob('good/*'))
  assert maps == ['0.bmp.tiff', '0.png.tiff', '1.tiff', '2.tiff']


@pytest.mark.parametrize(
  ('protocol', 'changes'),
  [
    ('paper', {}),
    ('paper', {'head.adaptor': 'mlp', 'train.loss': 'cross_entropy'}),
    ('reference', {'head.adaptor': 'identity', 'backbone.levels': (1, 2, 3)}),
  ],
)
def test_every_switch_runs(config, tmp_path, protocol, changes):
  make_category(tmp_path / 'data/part')
  theirs = from_protocol(protocol)
  config.protocol = protocol
  for field in ('backbone.padding', 'backbone.probe', 'head.adaptor_bias'):
    section, name = field.split('.')
    config[section][name] = theirs[section][name]
  config.train.adaptor = theirs.train.adaptor
  config.update_from_flattened_dict(changes)
  table = run(config, tmp_path)
  assert 0 <= table['categories']['part']['last']['image_auroc']['mean'] <= 1
  assert table['protocol'].startswith(f'{protocol}, but ')
  assert 'data.resize' in table['protocol']


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('data.root', '', r'--config\.data\.root is empty'),
    (
      'data.root',
      '/nowhere',
      r'/nowhere: no such folder.*--config\.data\.root',
    ),
    ('data.categories', ('cog',), 'no category cog; there are part'),
    ('backbone.weights', '/no.safetensors', r'no\.safetensors'),
    ('backbone.name', 'resnet18', 'expected resnet18'),
    ('train.sigma', 1e38, 'the loss of seed 0 is (inf|nan) at step'),
  ],
)
def test_what_is_wrong_is_named(config, tmp_path, field, value, message):
  make_category(tmp_path / 'data/part')
  section, name = field.split('.')
  config[section][name] = value
  with pytest.raises((ValueError, OSError), match=message):
    run(config, tmp_path)


MVTEC = ('bottle', 'cable', 'capsule', 'carpet', 'grid', 'hazelnut', 'leather')
MVTEC += ('metal_nut', 'pill', 'screw', 'tile', 'toothbrush', 'transistor')
MVTEC += ('wood', 'zipper')


def test_fifteen_categories_train_together(tmp_path, backbone, capsys):
  root = tmp_path / 'mvtec'
  for index, name in enumerate(MVTEC):
    make_category(root / name, train=2 + index % 3)
  config = mvtec.get_config()
  small = make_config(root, backbone)
  config.data.root, config.data.resize, config.data.crop = str(root), 48, 32
  for section in ('backbone', 'patch', 'head'):
    config[section] = small[section]
  config.train.epochs, config.evaluation.every = 2, 1
  config.engine.devices, config.engine.lanes = 2, 3
  config.evaluation.pictures = 0
  table = train.train_and_evaluate(config, tmp_path / 'work')
  assert tuple(table['categories']) == MVTEC
  told = capsys.readouterr().out
  assert 'trains    15 heads, 3 at a time per device' in told
  lines = [line.split()[0] for line in told.splitlines() if line.strip()]
  first = lines.index('category') + 2
  assert lines[first : first + 16] == [*MVTEC, 'mean']


def test_a_run_says_what_is_unusual_in_it(config, tmp_path, capsys, caplog):
  make_category(tmp_path / 'data/part')  # Five images, two steps an epoch.
  config.seeds, config.train.min_steps = (3,), 9
  config.data.crop = 40
  config.evaluation.pictures = 0
  found = run(config, tmp_path)
  told = capsys.readouterr().out
  assert '1 seed (the one with number 3), 3 epochs' in told
  assert (
    'part: 6 steps in 3 epochs are few; trains 5 epochs, 10 steps (--config.'
    'train.min_steps)'
  ) in told
  assert (
    'resize 32 is smaller than crop 40: every image gets a black frame of 4 '
    'pixels; set both, or --config.data.crop=0 to see the whole image'
  ) in caplog.text
  # Scored as often as in three epochs: after the third and the fifth one.
  assert found['selected_on_test']['part']['epochs'][0] in (3, 5)
  with (tmp_path / 'work/curves/part.csv').open() as file:
    assert max(int(row['epoch']) for row in csv.DictReader(file)) == 5
