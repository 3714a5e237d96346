"""A browser that is on the machine already, and how it is started."""

import shutil

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


def find() -> str | None:
  """Returns a Chromium's path, if there is one."""
  names = ('chromium', 'chromium-browser', 'google-chrome')
  return next((path for name in names if (path := shutil.which(name))), None)
