"""The page of a run or several: what it says, whole or damaged."""

import json
import re
import shutil

import pytest

from simplenet_jax import train
from simplenet_jax.detection import file, thresholds
from simplenet_jax.report import page
from tests import commands


@pytest.fixture(scope='module')
def text(run):
  return (run[1] / 'report.html').read_text(encoding='utf-8')


@pytest.fixture
def copy(run, tmp_path):
  return shutil.copytree(run[1], tmp_path / 'run')


def test_a_run_leaves_a_page_that_needs_nothing_beside_it(run, text):
  for address in re.findall(r'(?:src|href)="([^"]*)"', text):
    assert address.startswith(('data:', '#')), address
  assert 'http' not in re.sub(r'data:[^"]*', '', text)
  assert '<h2>untested</h2>' in text
  assert 'No test images' in text
  figures = run[2]['categories']['gear']['kinds']
  assert [one['images'] for one in figures.values()] == [1, 3]
  auroc = 100 * figures['spot']['image_auroc']
  assert f'<th scope="row">spot</th><td>3</td><td>{auroc:.2f}</td>' in text
  assert 'Scores and maps: mean of seeds 0, 1.' in text
  assert '<p class="note">Percent, mean±std over 2 seeds; ' in text
  assert re.search(
    r'Threshold [\d.-]+, the best F1 on .*: chosen on test\. At it \d of 4 '
    r'defective images are found, \d of 3 good ones raise an alarm\.',
    text,
  )
  # Names are escaped.
  assert "alert('x')" not in text
  assert '<h2>&lt;script&gt;alert(&#39;x&#39;)&lt;</h2>' in text
  assert 'd:&#34;Öl&#34; &amp; rost' in text


def test_a_detectors_threshold_comes_first(copy):
  path = copy / 'detectors/gear.safetensors'
  card, weights = file.load(path)
  held = thresholds.Thresholds(
    image=-1e6, guaranteed_rate=0.1, images=9, median=-2e6
  )
  file.save(path, type(card)(**{**vars(card), 'thresholds': held}), weights)
  text = page.write(copy).read_text()
  assert "Threshold -1000000.000, the detector's, from 9 good images" in text
  verdicts = {one['verdict'] for one in page.section(copy, 'gear')['images']}
  assert verdicts == {'found', 'false alarm'}


def test_the_command_makes_it_anew_and_replaces_nothing_else(run, tmp_path):
  before = (run[1] / page.NAME).read_bytes()
  (run[1] / page.NAME).unlink()
  done = commands.run('report', run[1])
  assert done.status == 0, done.errors
  assert (run[1] / page.NAME).read_bytes() == before
  output = tmp_path / 'page.html'
  output.write_text('mine')
  done = commands.run('report', run[1], f'--output={output}')
  assert 'page.html exists already; give another --output' in done.error
  assert output.read_text() == 'mine'


def test_runs_of_a_category_each_are_one_table(run, text, tmp_path):
  names = list(run[2]['categories'])
  parts = [tmp_path / folder for folder in ('odd', *names[1:])]
  for folder, name in zip(parts, names, strict=True):
    shutil.copytree(run[1], folder)
    part = json.loads((folder / 'results.json').read_text())
    for key in ('categories', 'selected_on_test'):
      part[key] = {name: part[key][name]}
    (folder / 'results.json').write_text(json.dumps(part))
  found = page.write(*parts, output=tmp_path / 'all.html').read_text()
  assert '<h1>odd, gear, untested</h1>' in found

  def table(text):
    return re.search('<table class="figures" id.*?</table>', text, re.S)[0]

  assert table(found) == table(text)
  assert found.count('<h2>gear</h2>') == found.count('<h2>untested</h2>') == 1
  done = commands.run('report', *parts, tmp_path, f'--output={tmp_path}/no')
  assert 'name the work directory of a run' in done.error


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('results.json', '{'),
    ('results.json', '[]'),
    ('results.json', {'device': '~'}),
    ('results.json', {'config': '~'}),
    ('results.json', {'categories': '~'}),
    ('report/gear.json', '[' * 100_000),
    ('curves/gear.csv', 'a,b\n1,2\n'),
    ('curves/gear.csv', 'seed,epoch,loss\n0,1,x\n'),
    ('detectors/gear.safetensors', 'no detector'),
  ],
)
def test_the_file_that_is_damaged_is_named(copy, name, content):
  if isinstance(content, dict):
    content = json.dumps(json.loads((copy / name).read_text()) | content)
  (copy / name).write_text(content)
  with pytest.raises(ValueError, match=rf'^\S+/{name}: ') as refused:
    page.write(copy)
  assert len(str(refused.value).splitlines()) == 1


def test_the_page_is_there_after_the_first_category(run, tmp_path, monkeypatch):
  written = []

  def write(workdir):
    found = json.loads((workdir / 'results.json').read_text())
    written.append(len(found['categories']))
    return workdir / page.NAME

  monkeypatch.setattr(page, 'write', write)
  train.train_and_evaluate(run[0], tmp_path / 'work')
  assert (written[0], written[-1]) == (1, 3)


def test_the_page_says_what_a_run_is_worth(copy):
  path = copy / 'results.json'
  found = json.loads(path.read_text())
  found['weights']['recipe'] = "torchvision's V2"
  found['files'] = [
    {'use': 'left out: a link', 'count': 2, 'example': 'c', 'left_out': True}
  ]
  found['categories']['gear'] |= {
    'cautions': ['gear: the head of seed 0 has not learned']
  }
  path.write_text(json.dumps(found))
  images = copy / 'report/gear.json'
  data = images.read_text().replace('spot/0.png', 'spot/\\udcff.png')
  images.write_text(data)
  text = page.write(copy).read_text()
  assert 'spot/\\udcff.png' in text  # No text, but a name.
  assert '(torchvision&#39;s V2)</dd>' in text
  row = '<th scope="row">left out: a link</th><td>2</td><td>c</td>'
  assert f'<tr class="left-out">{row}' in text
  assert 'Warning: gear: the head of seed 0 has not learned.</p>' in text
  left = json.loads(images.read_text())
  left['images'] = [one for one in left['images'] if not one['label']]
  del left['images'][0]['picture']
  images.write_text(json.dumps(left | {'pro': None}))
  text = page.write(copy).read_text()
  for told in (
    'Shown are 2 of 3 test images: ',
    'No masks: ',
    'Test images of one kind only: no ROC curve, no AUROC.',
    'No threshold: the test images are of one kind.',
  ):
    assert told in text
