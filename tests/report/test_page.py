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
  assert 'Scores and maps: mean of seeds 0, 1.' in text
  assert '<p class="note">Percent, mean±std over 2 seeds; ' in text
  # Names are escaped.
  assert "alert('x')" not in text
  assert '<h2>&lt;script&gt;alert(&#39;x&#39;)&lt;</h2>' in text
  assert '<h1>run</h1>' in text
  assert text.index('<h1>') < text.index('id="measured"') < text.index('sha256')


def part(text, name):
  """Returns a category's section as words."""
  found = text.partition(f'<h2>{name}</h2>')[2].partition('</section>')[0]
  found = re.sub(
    '<(script|dialog).*?</(script|dialog)>', ' ', found, flags=re.S
  )
  return ' '.join(re.sub('<[^>]*>', ' ', found).split()).replace(' ,', ',')


def test_a_category_begins_with_what_was_found(run, text):
  at = run[2]['categories']['gear']['at_threshold']
  told = part(text, 'gear')
  assert f'{at["found"]} of 4 defects found, {at["false_alarms"]} of 3 ' in told
  assert f'limit {at["image"]:.3g} Threshold ' in told
  assert 'from 4 good images that were not trained on' in told
  # Recall by kind; figures without any value have no column.
  kinds, spot = run[2]['categories']['gear']['kinds'], at['kinds']['spot']
  assert [one['images'] for one in kinds.values()] == [1, 3]
  auroc = f'{100 * kinds["spot"]["image_auroc"]:.2f}'
  assert f'spot {spot["found"]} of 3 {auroc}' in told
  found = page.section(run[1], 'gear', run[2]['categories']['gear'])
  assert len(found['data']['scores']) == len(found['images']) == 7
  assert len(found['data']['held']) == 4
  # Nobody gave it a limit.
  odd = part(text, '&lt;script&gt;alert(&#39;x&#39;)&lt;')
  assert 'Limit: the best F1 on these very images, chosen on test' in odd


def test_good_images_alone_show_what_set_the_limit(text):
  told = part(text, 'untested')
  assert re.match(r'Warning.*limit [-\d.]+, from 4 good images Threshold', told)
  assert 'Look at these first No test images: nothing was measured.' in told
  assert told.count('untested/validation/good/') >= 4
  assert 'On average at most 20.0% of good images are called NOT OK' in told
  assert '/detectors/untested --input=NEW_IMAGES --output=found' in told
  assert 'mask' not in told
  assert 'defective' not in told


def test_a_threshold_that_was_set_anew_comes_first(copy, text):
  path = copy / 'detectors/gear.safetensors'
  gone = path.rename(copy / 'gear')  # The run's results have it, too.
  told = part(page.write(copy).read_text(), 'gear')
  assert told == part(text, 'gear').partition(' Look at new images')[0]
  gone.rename(path)
  card, weights = file.load(path)
  held = thresholds.Thresholds(
    image=-1e6, guaranteed_rate=0.1, images=9, median=-2e6
  )
  file.save(path, type(card)(**{**vars(card), 'thresholds': held}), weights)
  told = part(page.write(copy).read_text(), 'gear')
  assert '4 of 4 defects found, 3 of 3 false alarms, limit -1e+06' in told
  assert 'from 9 good images' in told
  assert 'other limits now than when it was trained' in told


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
    one = json.loads((folder / 'results.json').read_text())
    for key in ('categories', 'selected_on_test'):
      one[key] = {name: one[key][name]}
    (folder / 'results.json').write_text(json.dumps(one))
  found = page.write(*parts, output=tmp_path / 'all.html').read_text()
  assert '<h1>odd, gear, untested</h1>' in found
  assert (
    part(found, 'gear').partition('Look at new')[0]
    == part(text, 'gear').partition('Look at new')[0]
  )

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
    ('report/gear.json', {'good': [{'score': 1, 'picture': ''}]}),
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
  told = 'Warning: gear: the head of seed 0 has not learned.</p>'
  assert text.count(told) == 1
  left = json.loads(images.read_text())
  left['images'] = [one for one in left['images'] if not one['label']]
  del left['images'][0]['picture']
  for one in left['images']:
    one['truth'] = ''
  images.write_text(json.dumps(left | {'pro': None}))
  told = part(page.write(copy).read_text(), 'gear')
  assert 'Shown are 2 of 3 test images: ' in told
  assert 'epoch, ROC' not in told
  assert 'truth' not in told
  assert re.search(r'\d of 3 false alarms, limit', told)
  assert 'defects found' not in told
