"""The page in a real browser."""

import base64
import io
import itertools
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from simplenet_jax import pictures
from simplenet_jax.pictures import Scale
from simplenet_jax.report import page

# Without a network, and as root in containers.
ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
LOADED = 'image => image.decode().then(() => image.naturalWidth)'


@pytest.fixture(scope='module')
def browser():
  names = ('chromium', 'chromium-browser', 'google-chrome')
  path = next((path for name in names if (path := shutil.which(name))), None)
  if path is None:
    pytest.skip('needs Chromium on the PATH')
  from playwright.sync_api import sync_playwright

  with sync_playwright() as playwright:
    yield playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


@pytest.fixture
def opened(run, browser):
  tab = browser.new_page(viewport={'width': 1280, 'height': 900})
  tab.complaints = []
  tab.on('console', lambda message: tab.complaints.append(message.text))
  tab.on('pageerror', lambda error: tab.complaints.append(str(error)))
  tab.goto((run[1] / page.NAME).resolve().as_uri())
  yield tab
  assert tab.complaints == []
  tab.close()


def first_column(tab):
  return tab.locator('#figures tbody tr th').all_inner_texts()


def test_the_table_sorts(opened):
  before = first_column(opened)
  heads = opened.locator('#figures thead button')
  heads.nth(1).click()
  down = first_column(opened)
  heads.nth(1).click()
  up = first_column(opened)
  assert sorted(down) == sorted(up) == sorted(before)
  assert down[-1] == up[-1] == 'mean'  # It has a place of its own.
  assert down[-2] == up[-2] == 'untested'  # Undefined: last either way.
  assert down[:2] == up[:2][::-1]
  heads.first.click()
  assert first_column(opened)[-3:] == ['gear', 'untested', 'mean']


@pytest.fixture
def gear(opened):
  return opened.locator('.category').filter(has=opened.locator('text="gear"'))


def verdicts(section):
  shots = section.locator('.gallery').first.locator('.shot:visible')
  return [one.get_attribute('data-verdict') for one in shots.all()]


def test_the_gallery_loads_and_filters(opened, gear):
  shots = gear.locator('.gallery').first.locator('.shot')
  assert shots.count() == 7
  for option in gear.locator('.filter option').all():
    gear.locator('.filter').select_option(option.get_attribute('value'))
    count = gear.locator('.shot:visible').count()
    assert option.inner_text().endswith(f'({count})')
    assert gear.locator('.gallery.empty').count() == (count == 0)
  gear.locator('.filter').select_option('d:spot')
  assert gear.locator('.count').inner_text() == '3 of 7'
  gear.locator('.filter').select_option('')
  for order, key in (('down', -1), ('up', 1)):
    gear.locator('.order').select_option(order)
    scores = [float(one.get_attribute('data-score')) for one in shots.all()]
    assert scores == sorted(scores, key=lambda score: key * score)
  gear.locator('.order').select_option('name')
  names = [one.get_attribute('data-name') for one in shots.all()]
  assert names[1:] == sorted(names[1:])
  gear.locator('.curves summary').click()
  for one in gear.locator('.shot:visible img, .charts img').all():
    one.scroll_into_view_if_needed()
    assert one.evaluate(LOADED)
  gear.get_by_label('heat map').uncheck()
  assert gear.locator('.map:visible').count() == 0


def test_the_limit_moves_verdicts_and_outlines(run, opened, gear):
  """By the keyboard, and back to the detector's."""
  at = run[2]['categories']['gear']['at_threshold']
  answer, reset = gear.locator('.answer'), gear.locator('.reset')
  before = answer.inner_text()
  assert before.startswith(f'{at["found"]} of 4 defects found, ')
  assert reset.is_disabled()
  slider = gear.locator('.limit')
  slider.focus()
  opened.keyboard.press('Home')
  opened.wait_for_function("document.querySelector('.category.moved') !== null")
  assert answer.inner_text().startswith('4 of 4 defects found, 3 of 3 false')
  assert set(verdicts(gear)) == {'found', 'false alarm'}
  found = gear.locator('.kinds tbody tr').all_inner_texts()
  assert '3 of 3' in found[1]
  assert (
    '4 of 4 good images that were not' in gear.locator('.trial').inner_text()
  )
  # One step of the keyboard is one of the slider, which says where it is.
  step, lowest = slider.input_value(), slider.get_attribute('aria-valuetext')
  opened.keyboard.press('ArrowRight')
  assert int(slider.input_value()) == int(step) + 1
  opened.keyboard.press('End')  # A single step can be less than is shown.
  opened.wait_for_function(
    'before => document.activeElement.ariaValueText !== before', arg=lowest
  )
  reset.click()
  assert answer.inner_text() == before
  assert reset.is_disabled()
  # The scores are of patches: pixels have a limit of their own.
  drawn = """([section, expected]) => expected === [...section
    .querySelectorAll('.shot .found')]
    .some((one) => /[0-9]/.test(one.getAttribute('d')))"""
  gear.locator('.gallery').first.scroll_into_view_if_needed()
  for key, is_drawn in (('End', False), ('Home', True)):
    gear.locator('.pixel[type=range]').focus()
    opened.keyboard.press(key)
    arg = [gear.element_handle(), is_drawn]
    opened.wait_for_function(drawn, arg=arg)


def test_the_large_view_obeys_the_keyboard(opened, gear):
  shot = gear.locator('.gallery').first.locator('.shot')
  shot.first.focus()
  opened.keyboard.press('Enter')
  large, where = opened.locator('#large'), opened.locator('#large .where')
  assert where.inner_text() == '1 of 7'
  # The image, and the same with its heat map.
  assert large.locator('.view img').count() == 2
  assert large.locator('.view canvas').count() == 1
  assert large.locator('.name').first.inner_text() == (
    shot.first.get_attribute('data-name')
  )
  assert re.match(
    r'(NOT )?OK .* \(limit .*\): ', large.locator('.verdict').inner_text()
  )
  opened.keyboard.press('ArrowRight')
  assert where.inner_text() == '2 of 7'
  opened.keyboard.press('ArrowLeft')
  opened.keyboard.press('ArrowLeft')
  assert where.inner_text() == '7 of 7'
  opened.keyboard.press('Escape')
  assert not opened.locator('#large').is_visible()
  shot.last.and_(opened.locator(':focus')).wait_for()


def test_maps_are_drawn_as_the_detector_draws_them(run, opened, gear):
  """Colours and outlines are of the same values as in its pictures."""
  data = json.loads((run[1] / 'report/gear.json').read_text())
  row = max(data['images'], key=lambda row: row['top'])
  script = """async ([heat, top, scale, level]) => {
    const shot = {dataset: {heat, top}};
    const map = await readMap(shot, scale[0]);
    const canvas = document.createElement('canvas');
    paint(canvas, map, scale);
    const { width, height } = map;
    const context = canvas.getContext('2d');
    const pixels = context.getImageData(0, 0, width, height);
    return [[...map.values], [...pixels.data], contour(map, level)];
  }"""
  image = Image.open(io.BytesIO(base64.b64decode(row['heat'].split(',')[1])))
  levels = np.array(image).astype(float)
  low, span = data['scale'][0], row['top'] - data['scale'][0]
  expected = low + span * ((levels - 1) / 254) ** 2
  level = float(np.median(expected))
  scale = [low, row['top'], None]
  asked = [row['heat'], row['top'], scale, level]
  values, pixels, path = opened.evaluate(script, asked)
  values = np.array(values).reshape(expected.shape)
  np.testing.assert_allclose(values, expected, atol=1e-5)
  colours = Scale(*scale).colours(expected).astype(int)
  seen = np.array(pixels).reshape(colours.shape)
  # Browsers keep colours multiplied by opacity: faint ones are rounded.
  assert np.abs(seen[..., 3] - colours[..., 3]).max() <= 4
  solid = colours[..., 3] > 100
  assert np.abs(seen - colours)[solid].max() <= 6
  ends = np.array(re.findall(r'[ML]([\d.]+) ([\d.]+)', path), float)
  drawn = np.concatenate(pictures.contours(expected, level)) * 100
  near = np.abs(ends[:, None] - drawn).max(-1).min(0)
  assert near.max() < 0.15  # Percent of a side.


def luminance(colour):
  """Returns the relative luminance of a colour such as '#1c2024' in [0, 1]."""
  levels = np.array([int(colour.strip()[i : i + 2], 16) for i in (1, 3, 5)])
  share = levels / 255
  linear = np.where(
    share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4
  )
  return linear @ [0.2126, 0.7152, 0.0722]


def test_it_is_readable_in_the_dark_and_on_a_phone(opened):
  style = 'getComputedStyle(document.body)'
  colours = f'[{style}.color, {style}.backgroundColor]'
  light = opened.evaluate(colours)
  names = ['ink', 'soft', 'accent', 'bad', 'paper', 'raised']
  variables = f"""{names}.map((name) => getComputedStyle(
    document.documentElement).getPropertyValue(`--${{name}}`))"""
  for scheme in ('light', 'dark'):
    opened.emulate_media(color_scheme=scheme)
    *inks, paper, raised = map(luminance, opened.evaluate(variables))
    for pair in itertools.product(inks, (paper, raised)):
      # WCAG 2's level AA for text.
      assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5
  dark = opened.evaluate(colours)
  assert light != dark
  opened.locator('#theme').click()
  assert opened.evaluate(colours) == light
  opened.set_viewport_size({'width': 360, 'height': 700})
  assert opened.evaluate('document.documentElement.scrollWidth') == 360
