"""Unpacks an archive as a download is unpacked: ARCHIVE TARGET."""

import pathlib

from simplenet_jax import cli
from simplenet_jax.data.unpack import staged, unpack


def main(names: list[str]) -> None:
  """Unpacks within narrow bounds."""
  archive, target = map(pathlib.Path, names)
  with staged(target) as aside:
    unpack(archive, aside, 10**6, 100).rename(target)


if __name__ == '__main__':
  cli.run(main, positional=True)
