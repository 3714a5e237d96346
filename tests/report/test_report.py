"""The page of a run: what it says, and that a browser shows it."""

import json
import re
import shutil

import pytest

from simplenet_jax import train
from simplenet_jax.detection import file, thresholds
from simplenet_jax.evaluation import metrics, run_files
from simplenet_jax.report import charts, contents, page, sections
from tests import commands


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
  done = commands.run('report', workdir, workdir, f'--output={output}')
  assert done.status == 1
  assert 'both.html is there already; give another --output' in done.error
  assert output.read_text(encoding='utf-8') == text
  done = commands.run('report', workdir, f'--output={output}', '--overwrite')
  assert done.status == 0, done.errors
  assert output.read_bytes() == (workdir / page.NAME).read_bytes()


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
  path = run_files.report_path(tmp_path / 'run', 'gear')
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


def test_the_page_says_what_a_run_is_worth(run, tmp_path):
  shutil.copytree(run[1], tmp_path / 'run')
  path = tmp_path / 'run/results.json'
  found = json.loads(path.read_text())
  found['weights']['recipe'] = "torchvision's V2"
  found['weights']['warnings'] = ['the figures belong to V1']
  found['files'] = [
    {'use': 'train', 'count': 48, 'example': 'a/b.png', 'left_out': False},
    {'use': 'left out: a link', 'count': 2, 'example': 'c', 'left_out': True},
  ]
  found['categories']['gear'] |= {
    'cautions': ['gear: the head of seed 0 has not learned'],
    'pixels': {'images': 5, 'of': 7, 'left_out': {'mask all black': 2}},
  }
  path.write_text(json.dumps(found))
  text = page.write(tmp_path / 'run').read_text()
  assert '(torchvision&#39;s V2); the figures belong to V1' in text
  assert '<h2>What the files were used as</h2>' in text
  row = '<th scope="row">left out: a link</th><td>2</td><td>c</td>'
  assert f'<tr class="left-out">{row}' in text
  assert 'Warning: gear: the head of seed 0 has not learned.</p>' in text
  note = 'are over 5 of 7 images: 2 mask all black.</p>'
  assert f'Pixel figures {note}' in text
  assert f'Pixel figures of gear {note}' in text


def test_nothing_is_said_of_what_a_run_did_not_leave(run):
  found = json.loads((run[1] / 'results.json').read_text())
  found.pop('files', None)
  for one in found['categories'].values():
    for name in ('kinds', 'cautions', 'pixels'):
      one.pop(name, None)
  (run[1].parent / 'less').mkdir()
  (run[1].parent / 'less/results.json').write_text(json.dumps(found))
  text = page.write(run[1].parent / 'less').read_text()
  for word in ('What the files', 'Warning', 'Pixel figures', 'kind of defect'):
    assert word not in text


def test_the_page_shows_kinds_of_defects_and_whose_maps(run, text):
  figures = run[2]['categories']['gear']['kinds']
  assert list(figures) == ['"Öl" & rost', 'spot']
  assert [one['images'] for one in figures.values()] == [1, 3]
  assert figures['spot']['pixel_auroc'] is not None
  auroc = 100 * figures['spot']['image_auroc']
  row = f'<th scope="row">spot</th><td>3</td><td>{auroc:.2f}</td>'
  assert row in text
  assert 'Scores and maps: mean of seeds 0, 1.' in text


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
