"""The page of a run: what it says, and that a browser shows it."""

import json
import re
import shutil

import pytest

from simplenet_jax import train
from simplenet_jax.detection import file, thresholds
from simplenet_jax.evaluation import run_files
from simplenet_jax.report import page, sections
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


def test_a_metric_that_is_undefined_keeps_its_column(run, tmp_path):
  found = json.loads((run[1] / 'results.json').read_text())
  undefined = {'mean': None, 'std': None, 'seeds': [None, None]}
  for one in (*found['categories'].values(), found['mean']):
    one['last']['pixel_auroc'] = undefined
  (tmp_path / 'results.json').write_text(json.dumps(found))
  text = page.write(tmp_path).read_text()
  assert '<small>last epoch</small>P-AUROC' in text
  auroc = 100 * found['categories']['gear']['last']['image_auroc']['mean']
  assert f'<td data-value="{auroc}">{auroc:.2f}±' in text
  assert '<small>selected on test</small>I-AUROC' in text


def test_a_detectors_threshold_comes_first(run, tmp_path):
  _, workdir, _ = run
  shutil.copytree(workdir, tmp_path / 'run')
  path = tmp_path / 'run/detectors/gear.safetensors'
  before = sections.read(tmp_path / 'run', 'gear')
  assert 'chosen on test' in before.verdicts
  card, weights = file.load(path)
  held = thresholds.Thresholds(image=-1e6, promised=0.1, images=9, median=-2e6)
  file.save(path, type(card)(**{**vars(card), 'thresholds': held}), weights)
  section = sections.read(tmp_path / 'run', 'gear')
  assert section.threshold == -1e6
  assert '9 good images that were held out' in section.verdicts
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
  assert 'run and noisier cannot be joined: gear is in both' in text
  assert 'train.sigma' in text and 'noisier less run' in text
  assert text.count('<h2>gear</h2>') == 2
  done = commands.run('report', workdir, workdir, f'--output={output}')
  assert done.status == 1
  assert 'both.html is there already; give another --output' in done.error
  assert output.read_text(encoding='utf-8') == text
  done = commands.run('report', workdir, f'--output={output}', '--overwrite')
  assert done.status == 0, done.errors
  assert output.read_bytes() == (workdir / page.NAME).read_bytes()


def split(workdir, folder, **changes):
  """Writes a run's results as those of runs of a category each."""
  whole = json.loads((workdir / 'results.json').read_text())
  made = []
  for number, name in enumerate(whole['categories']):
    part = {**whole, **(changes if number else {})}
    for key in ('categories', 'selected_on_test'):
      part[key] = {name: whole[key][name]}
    made.append(folder / f'job{number}')
    shutil.copytree(workdir, made[-1])
    (made[-1] / 'results.json').write_text(json.dumps(part))
  return made


def test_runs_of_a_category_each_are_one_table(run, text, tmp_path):
  parts = split(run[1], tmp_path)
  found = page.write(*parts, output=tmp_path / 'all.html').read_text()
  assert '<h1>job0, job1, job2</h1>' in found
  assert 'not joined' not in found

  def table(text):
    return re.search('<table class="figures" id.*?</table>', text, re.S)[0]

  assert table(found) == table(text)
  for name in ('gear', 'untested'):
    assert found.count(f'<h2>{name}</h2>') == 1
  parts = split(run[1], tmp_path / 'other', protocol='paper')
  found = page.write(*parts, output=tmp_path / 'apart.html').read_text()
  assert 'they differ in protocol (test and paper)' in found
  assert 'Figures compared' not in found


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


def test_without_test_images_no_empty_table_is_printed(run, tmp_path, capsys):
  config = run[0].copy_and_resolve_references()
  config.data.categories = ('untested',)
  train.train_and_evaluate(config, tmp_path / 'work')
  told = capsys.readouterr().out
  assert 'No test images: nothing was measured.' in told
  assert 'I-AUROC' not in told
  assert 'No test images' in (tmp_path / 'work' / page.NAME).read_text()
