"""Takes the documentation's pictures of a report, in a browser.

  python -m simplenet_jax.main --config=configs/demo.py --config.seeds=0,1 \
    --workdir=runs/demo
  python -m benchmarks.screenshots --workdir=runs/demo --output=docs

Needs Chromium on the PATH and the extra `test`.
"""

import pathlib

from absl import flags

from simplenet_jax import cli
from tests.report import browser

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.')
_OUTPUT = flags.DEFINE_string('output', 'docs', 'Where pictures go.')
cli.require('workdir')


def main() -> None:
  """Writes `report.png` and `report_phone.png`."""
  from playwright.sync_api import sync_playwright

  browser_path = browser.find()
  if browser_path is None:
    raise ValueError('no Chromium on the PATH; install one')
  page_path = pathlib.Path(_WORKDIR.value or '.', 'report.html').resolve()
  output = pathlib.Path(_OUTPUT.value)
  with sync_playwright() as playwright:
    opened = playwright.chromium.launch(
      executable_path=browser_path, args=list(browser.ARGUMENTS)
    )
    for name, width, height in (
      ('report', 1280, 1400),
      ('report_phone', 390, 1400),
    ):
      page = opened.new_page(
        viewport={'width': width, 'height': height},
        color_scheme='dark' if name == 'report_phone' else 'light',
      )
      page.goto(page_path.as_uri())
      page.screenshot(path=output / f'{name}.png')
    opened.close()


if __name__ == '__main__':
  cli.run(main)
