"""The page of a run: what it says, and that a browser shows it."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import train
from simplenet_jax.data import sources
from simplenet_jax.evaluation import evidence, metrics, miniatures
from simplenet_jax.evaluation.judge import Judge
from simplenet_jax.evaluation.results import write_json
from simplenet_jax.inference import file, thresholds
from simplenet_jax.report import charts, contents, page, sections
from simplenet_jax.training.plan import Job
from simplenet_jax.training.record import Record
from tests import commands
from tests.small import make_category, make_config


@pytest.fixture(scope='module')
def text(run):
  return (run[1] / 'report.html').read_text(encoding='utf-8')


def test_a_run_leaves_a_page_that_needs_nothing_beside_it(run, text):
  for address in re.findall(r'(?:src|href)="([^"]*)"', text):
    assert address.startswith(('data:', '#')), address
  assert 'http' not in re.sub(r'data:[^"]*', '', text)
  for name in ('gear', 'untested'):
    assert f'<h2>{name}</h2>' in text
  assert 'No test images' in text


def test_names_are_escaped(text):
  assert "alert('x')" not in text
  assert '<h2>&lt;script&gt;alert(&#39;x&#39;)&lt;</h2>' in text
  assert 'd:&#34;Öl&#34; &amp; rost' in text


def test_the_table_holds_the_results_and_how_they_were_selected(run):
  _, _, results = run
  columns, cells = contents.table(results)
  last = results['categories']['gear']['last']
  by_column = dict(
    zip(
      ((column.selection, column.metric) for column in columns),
      cells['gear'],
      strict=True,
    )
  )
  mean = 100 * last['image_auroc']['mean']
  assert by_column['last epoch', 'I-AUROC'].value == pytest.approx(mean)
  assert ('selected on test', 'I-AUROC') in by_column
  assert cells['untested'][0].text == contents.UNDEFINED


def test_a_metric_that_is_undefined_keeps_its_column(run):
  results = json.loads((run[1] / 'results.json').read_text())
  undefined = {'mean': None, 'std': None, 'seeds': [None, None]}
  for one in (*results['categories'].values(), results['mean']):
    one['last']['pixel_auroc'] = undefined
  columns, cells = contents.table(results)
  at = [(c.selection, c.metric) for c in columns].index(
    ('last epoch', 'P-AUROC')
  )
  assert {row[at].text for row in cells.values()} == {contents.UNDEFINED}


def test_differences_are_of_figures_selected_alike():
  summary = {'mean': 0.95, 'std': 0.01, 'seeds': [0.94, 0.96]}
  ours = dict.fromkeys(metrics.METRICS, summary)
  results = {
    'categories': {'screw': {'last': ours}},
    'mean': {'last': ours},
    'selected_on_test': {},
    'published': [
      {
        'table': 'theirs',
        'category': 'screw',
        'selection': 'selected on test',
        'percent': {'image_auroc': 98.0, 'pixel_auroc': 97.0},
      }
    ],
  }
  columns, cells = contents.table(results)
  assert not any('ours - ' in column.source for column in columns)
  results['selected_on_test'] = {'screw': {**ours, 'epochs': [1, 2]}}
  results['mean']['selected_on_test'] = ours
  columns, cells = contents.table(results)
  found = {
    (c.source, c.metric): cell
    for c, cell in zip(columns, cells['screw'], strict=True)
  }
  assert found['ours - theirs', 'I-AUROC'].text == '-3.0'


def test_curves_and_thresholds_agree_with_the_metrics(run):
  _, workdir, results = run
  found = json.loads(evidence.path(workdir, 'gear').read_text())
  for seed, points in enumerate(found['roc']):
    x, y = np.transpose(points)
    auroc = results['categories']['gear']['last']['image_auroc']['seeds'][seed]
    assert np.trapezoid(y, x) == pytest.approx(auroc, abs=1e-3)
  x, y = np.transpose(found['pro'])
  assert x[0] == y[0] == 0 and x[-1] == pytest.approx(0.3)
  scores = np.array([one['score'] for one in found['images']])
  labels = np.array([one['label'] for one in found['images']])
  flagged = scores > found['threshold']
  f1 = 2 * (flagged & (labels == 1)).sum() / (flagged.sum() + labels.sum())
  best = metrics.evaluate(labels, scores, None, None)['image_f1_max']
  assert f1 == pytest.approx(best)


@pytest.mark.parametrize(
  'scores', [[1, 2, 3, 4], [4, 3, 2, 1], [2, 2, 2, 2], [1, 2, 2, 3]]
)
def test_the_threshold_has_the_best_f1(scores):
  labels, scores = np.array([0, 1, 1, 1]), np.array(scores, np.float32)
  threshold = evidence.best_f1(labels, scores)
  flagged = scores > threshold
  f1 = 2 * (flagged & (labels == 1)).sum() / (flagged.sum() + labels.sum())
  best = metrics.evaluate(labels, scores, None, None)['image_f1_max']
  assert f1 == pytest.approx(best)


def test_one_kind_of_images_has_no_threshold():
  assert evidence.best_f1(np.zeros(3, int), np.arange(3.0)) is None


def test_the_scores_are_those_that_were_measured(run):
  _, workdir, results = run
  found = json.loads(evidence.path(workdir, 'gear').read_text())
  labels = [one['label'] for one in found['images']]
  for seed, scores in enumerate(
    np.transpose([one['scores'] for one in found['images']])
  ):
    auroc = results['categories']['gear']['last']['image_auroc']['seeds'][seed]
    assert metrics.auroc(labels, scores) == pytest.approx(auroc)


def test_of_too_many_images_the_likeliest_errors_are_shown():
  labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
  scores = np.array([1, 4, 3, 2, 8, 5, 7, 6.0])
  assert evidence.select(labels, scores, 8).tolist() == list(range(8))
  assert evidence.select(labels, scores, 4).tolist() == [1, 2, 5, 7]
  assert evidence.select(labels[:5], scores[:5], 4).tolist() == [1, 2, 3, 4]
  assert evidence.select(labels[3:], scores[3:], 4).tolist() == [0, 2, 3, 4]
  assert evidence.select(labels * 0, scores, 2).tolist() == [4, 6]
  assert evidence.select(labels, scores, 0).tolist() == [1]


def test_pixel_curves_are_those_of_the_metrics():
  rng = np.random.default_rng(0)
  masks = rng.random((3, 16, 16)) > 0.9
  maps = rng.normal(size=masks.shape) + masks
  curves = metrics.pixel_curves(masks, maps)
  values = metrics.evaluate([1, 1, 0], [1, 1, 0], masks, maps)
  flagged = maps >= curves.best
  f1 = 2 * (flagged & masks).sum() / (flagged.sum() + masks.sum())
  assert f1 == pytest.approx(values['pixel_f1_max'])
  inside = curves.alarms <= 1
  assert np.all(np.diff(curves.overlaps[inside]) >= 0)


def test_a_detectors_threshold_comes_first(run, tmp_path):
  _, workdir, _ = run
  shutil.copytree(workdir, tmp_path / 'run')
  path = tmp_path / 'run/detectors/gear.safetensors'
  before = sections.section(tmp_path / 'run', 'gear').threshold
  assert 'chosen on test' in before.why
  card, weights = file.load(path)
  held = thresholds.Thresholds(image=-1e6, promised=0.1, images=9, median=-2e6)
  file.save(path, type(card)(**{**vars(card), 'thresholds': held}), weights)
  section = sections.section(tmp_path / 'run', 'gear')
  assert section.threshold.value == -1e6
  assert '9 good images that were held out' in section.threshold.why
  verdicts = {one['verdict'] for one in section.images}
  assert verdicts == {'found', 'false alarm'}


@pytest.fixture
def noise(tmp_path):
  """A category of noise with masks of noise, its judge and a head's record."""
  rng = np.random.default_rng(0)
  root = tmp_path / 'noise'
  make_category(root, train=2)
  for path in root.glob('test/*/*.png'):
    pixels = rng.integers(0, 256, (400, 500, 3), np.uint8)
    Image.fromarray(pixels).save(path)
  for path in root.glob('ground_truth/*/*.png'):
    mask = rng.random((40, 50)) > 0.5
    whole = np.kron(mask, np.full((10, 10), 255)).astype(np.uint8)
    Image.fromarray(whole).save(path)
  (inputs,) = sources.open_categories(make_config(tmp_path, '').data)
  record = Record(Job('noise', 0, 2, 2, 1))
  record.add_scores(1, rng.normal(size=(6, 4, 4)).astype(np.float32))
  return inputs, Judge.of(inputs, 0.1), [record]


LAYERS = ('picture', 'heat', 'truth', 'found')


def test_noisy_images_keep_a_page_below_25_megabytes(run, noise, tmp_path):
  images = 1725  # Of MVTec AD.
  evidence.write(tmp_path, *noise, images)
  results = run[2]
  names = [f'category {number}' for number in range(15)]
  for part in ('categories', 'selected_on_test'):
    results = {**results, part: dict.fromkeys(names, results[part]['gear'])}
  work = tmp_path / 'work'
  found = json.loads(evidence.path(tmp_path, 'noise').read_text())
  for one in found['images']:
    assert sum(len(one[k]) for k in LAYERS) <= evidence.PAGE_BYTES / images
    size = Image.open(_decoded(one['picture'])).size
    assert max(size) >= 96  # Something can be seen.
  found['images'] = [found['images'][k % 6] for k in range(images // 15)]
  for name in names:
    write_json(evidence.path(work, name), found)
  write_json(work / 'results.json', results)
  assert page.write(work).stat().st_size < 25e6


def _decoded(address):
  return io.BytesIO(base64.b64decode(address.split(',')[1]))


@pytest.mark.parametrize('most', [3_000, 5_000, 24_000])
def test_a_miniature_keeps_to_its_bytes(noise, most):
  inputs, judge, (record,) = noise
  heat = inputs.test[5].map_to_original(judge.maps(record.scores[1][5:])[0])
  for image in (inputs.test_image(5), Image.new('RGB', (1, 400))):
    width, height = image.size
    made = miniatures.make(
      image,
      heat[:height, :width],
      inputs.original_mask(5)[:height, :width],
      (0, 1),
      0.5,
      most,
    )
    assert sum(len(made[k]) for k in LAYERS) <= most
    assert made['truth'].startswith('M') and made['truth'].endswith('z')


def test_of_too_many_images_some_are_shown(noise, tmp_path):
  evidence.write(tmp_path, *noise, images=6_000)
  found = json.loads(evidence.path(tmp_path, 'noise').read_text())
  assert ['picture' in one for one in found['images']].count(True) == 4
  section = sections.section(tmp_path, 'noise')
  assert len(section.images) == 4
  assert any('4 of 6 test images' in note for note in section.notes)
  assert 'of 3 defective' in section.outcome and 'of 3 good' in section.outcome


def test_the_command_makes_it_anew(run):
  _, workdir, _ = run
  before = (workdir / page.NAME).read_bytes()
  (workdir / page.NAME).unlink()
  done = commands.run('report', workdir)
  assert done.status == 0, done.errors
  assert (workdir / page.NAME).read_bytes() == before


def test_several_runs_are_compared(run, tmp_path):
  config, workdir, _ = run
  other = config.copy_and_resolve_references()
  other.train.sigma = 0.5
  other.data.categories = ('gear',)
  train.train_and_evaluate(other, tmp_path / 'noisier')
  output = tmp_path / 'both.html'
  done = commands.run(
    'report', workdir, tmp_path / 'noisier', f'--output={output}'
  )
  assert done.status == 0, done.errors
  text = output.read_text(encoding='utf-8')
  assert 'train.sigma' in text and 'noisier less run' in text
  assert '<figcaption>gear</figcaption>' in text


@pytest.mark.parametrize('argument', [[], ['nowhere']])
def test_what_is_no_run_is_told(argument):
  done = commands.run('report', *argument)
  assert done.status == 1
  assert 'work directory of a run' in done.error


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('results.json', '{'),
    ('results.json', '[]'),
    ('results.json', '{}'),
    ('report/gear.json', '{}'),
    ('curves/gear.csv', 'a,b\n1,2\n'),
    ('curves/gear.csv', 'seed,epoch,loss\n0,1,x\n'),
    ('detectors/gear.safetensors', ''),
  ],
)
def test_damaged_files_are_told(run, tmp_path, name, content):
  shutil.copytree(run[1], tmp_path / 'run')
  (tmp_path / 'run' / name).write_text(content)
  done = commands.run('report', tmp_path / 'run')
  assert done.status == 1
  assert f'{name}: damaged' in done.error


def test_names_that_are_no_text_do_no_harm(run, tmp_path):
  shutil.copytree(run[1], tmp_path / 'run')
  path = evidence.path(tmp_path / 'run', 'gear')
  found = json.loads(path.read_text())
  found['images'][0]['name'] = 'spot/\udcff.png'
  path.write_text(json.dumps(found))
  assert 'spot/\\udcff.png' in page.write(tmp_path / 'run').read_text()


def test_the_page_is_there_after_the_first_category(run, tmp_path, monkeypatch):
  written = []

  def write(workdir):
    written.append(
      list(json.loads((workdir / 'results.json').read_text())['categories'])
    )
    return workdir / page.NAME

  monkeypatch.setattr(page, 'write', write)
  train.train_and_evaluate(run[0], tmp_path / 'work')
  assert list(map(len, written)) == [1, 2, 3, 3]


def test_ticks_are_round_and_inside():
  assert charts.Axis('', 0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
  assert charts.Axis('', 0, 160).ticks() == [0, 50, 100, 150]


def test_without_test_images_no_empty_table_is_printed(run, tmp_path, capsys):
  config = run[0].copy_and_resolve_references()
  config.data.categories = ('untested',)
  train.train_and_evaluate(config, tmp_path / 'work')
  told = capsys.readouterr().out
  assert 'No test images: nothing was measured.' in told
  assert 'I-AUROC' not in told
  assert 'No test images' in (tmp_path / 'work' / page.NAME).read_text()
