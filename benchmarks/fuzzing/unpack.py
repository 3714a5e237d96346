"""Unpacks an archive as a download is unpacked: ARCHIVE TARGET."""

import pathlib

from simplenet_jax import cli
from simplenet_jax.data.downloads import extraction


def main(names: list[str]) -> None:
  """Unpacks."""
  archive, target = map(pathlib.Path, names)
  extraction.extract(archive, target, most_bytes=10**6, most_entries=100)


if __name__ == '__main__':
  cli.run(main, positional=True)
