"""Takes the documentation's pictures of a report, in a browser.

  python -m simplenet_jax.main --config=configs/demo.py --config.seeds=0,1 \
    --workdir=runs/demo
  python -m benchmarks.screenshots --workdir=runs/demo --output=docs

Needs Chromium on the PATH and the extra `test`.
"""

import pathlib
import shutil

from absl import flags

from simplenet_jax import cli

_WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.')
_OUTPUT = flags.DEFINE_string('output', 'docs', 'Where pictures go.')
cli.require('workdir')

# Without a network, and as root in containers.
ARGUMENTS = (
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
)


def find_browser() -> str | None:
  """Returns a Chromium's path, if there is one."""
  names = ('chromium', 'chromium-browser', 'google-chrome')
  return next((path for name in names if (path := shutil.which(name))), None)


def main() -> None:
  """Writes `report.png` and `report_phone.png`."""
  from playwright.sync_api import sync_playwright

  browser_path = find_browser()
  if browser_path is None:
    raise ValueError('no Chromium on the PATH; install one')
  page_path = pathlib.Path(_WORKDIR.value or '.', 'report.html').resolve()
  output = pathlib.Path(_OUTPUT.value)
  with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=browser_path, args=list(ARGUMENTS)
    )
    for name, width, height in (
      ('report', 1280, 1400),
      ('report_phone', 390, 1400),
    ):
      page = browser.new_page(
        viewport={'width': width, 'height': height},
        color_scheme='dark' if name == 'report_phone' else 'light',
      )
      page.goto(page_path.as_uri())
      page.screenshot(path=output / f'{name}.png')
    browser.close()


if __name__ == '__main__':
  cli.run(main)
