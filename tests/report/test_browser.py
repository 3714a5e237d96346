"""The page in a real browser."""

import re
import shutil

import pytest

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


def test_the_gallery_loads_and_filters(opened):
  section = opened.locator('.category').filter(has_text='gear')
  shots = section.locator('.shot')
  assert shots.count() == 7
  for option in section.locator('.filter option').all():
    section.locator('.filter').select_option(option.get_attribute('value'))
    count = section.locator('.shot:visible').count()
    assert option.inner_text().endswith(f'({count})')
    assert section.locator('.gallery.empty').count() == (count == 0)
  section.locator('.filter').select_option('d:spot')
  assert section.locator('.count').inner_text() == '3 of 7'
  section.locator('.filter').select_option('')
  for one in section.locator('.shot img, .charts img').all():
    one.scroll_into_view_if_needed()
    assert one.evaluate(LOADED)
  section.get_by_label('heat map').uncheck()
  assert section.locator('.map:visible').count() == 0


def test_the_large_view_obeys_the_keyboard(opened):
  shot = opened.locator('.category').filter(has_text='gear').locator('.shot')
  shot.first.focus()
  opened.keyboard.press('Enter')
  where = opened.locator('#large .where')
  assert where.inner_text() == '1 of 7'
  opened.keyboard.press('ArrowRight')
  assert where.inner_text() == '2 of 7'
  opened.keyboard.press('ArrowLeft')
  opened.keyboard.press('ArrowLeft')
  assert where.inner_text() == '7 of 7'
  opened.keyboard.press('Escape')
  assert not opened.locator('#large').is_visible()
  shot.last.and_(opened.locator(':focus')).wait_for()


def test_it_is_readable_in_the_dark_and_on_a_phone(opened):
  style = 'getComputedStyle(document.body)'
  colours = f'[{style}.color, {style}.backgroundColor]'
  light = opened.evaluate(colours)
  opened.emulate_media(color_scheme='dark')
  dark = opened.evaluate(colours)
  assert light != dark
  for pair in (light, dark):
    ink, paper = (int(re.search(r'\d+', colour)[0]) for colour in pair)
    assert abs(ink - paper) > 120
  opened.locator('#theme').click()
  assert opened.evaluate(colours) == light
  opened.set_viewport_size({'width': 360, 'height': 700})
  assert opened.evaluate('document.documentElement.scrollWidth') == 360
