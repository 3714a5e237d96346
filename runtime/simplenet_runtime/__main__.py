"""The command: simplenet-runtime predict."""

import argparse
import logging
import sys
from typing import NoReturn

from simplenet_jax.console import Stopped, at_once, console
from simplenet_jax.data import files
from simplenet_jax.data.decoding import CHANNELS
from simplenet_jax.detection import output
from simplenet_jax.files import folder
from simplenet_runtime.detector import Detector


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    self.exit(2, f'error: {message}\n')


def main() -> None:
  """Runs the command; errors are one line each."""
  given, status = _parser().parse_args(), 1
  logging.addLevelName(logging.WARNING, 'warning')
  logging.basicConfig(format='%(levelname)s: %(message)s')
  try:
    with at_once(lambda: 'stopped; start the same command again'):
      predict(given)
    return
  except Stopped as stopped:
    status, told = stopped.status, f'stop: {stopped}'
  except (OSError, ValueError, ImportError, MemoryError) as error:
    told = f'error: {str(error) or "this machine is out of memory"}'
    if isinstance(error, OSError) and error.filename and error.strerror:
      told = f'error: {error.filename}: {error.strerror}'
  print(' '.join(told.split()), file=sys.stderr)
  sys.exit(status)


def predict(given: argparse.Namespace) -> None:
  """Scores images and writes what is found."""
  found = files.locate(given.input, '--input')
  target = folder(given.output, '--output')
  detector = Detector.load(given.model, threads=given.threads)
  if given.threshold is not None:
    detector.threshold = given.threshold
  if given.pixel_threshold is not None:
    detector.pixel_threshold = given.pixel_threshold
  console.print(found.tell('to predict'))
  output.predict(
    detector,
    found.images,
    target,
    pictures=given.pictures,
    maps=given.maps,
    normalise=given.normalise,
    channels=given.channels,
    overwrite=given.overwrite,
  )


def _parser() -> argparse.ArgumentParser:
  parser = _Parser('simplenet-runtime', description=__doc__)
  commands = parser.add_subparsers(required=True, metavar='COMMAND')
  about = 'Scores images with an exported detector.'
  one = commands.add_parser('predict', help=about, description=about)
  add = one.add_argument
  add('--model', required=True, help='The folder of an export.')
  add('--input', required=True, help='An image, a folder or a pattern.')
  add('--output', required=True, help='Where results go, a folder.')
  add('--threshold', type=float, help='Another limit of scores.')
  add('--pixel_threshold', type=float, help='A limit of maps.')
  order = 'The order of the channels of images; OpenCV has blue first, bgr.'
  add('--channels', choices=CHANNELS, default='rgb', help=order)
  count = 'How many threads compute; 0: one for each core.'
  add('--threads', type=int, default=0, help=count)
  scale = 'Whether 0 is a usual score and 1 the threshold.'
  add('--normalise', '--normalize', action='store_true', help=scale)
  none = 'Draws no pictures.'
  add('--nopictures', dest='pictures', action='store_false', help=none)
  add('--maps', action='store_true', help='Whether to write anomaly maps.')
  again = 'Whether to replace what is at --output already.'
  add('--overwrite', action='store_true', help=again)
  return parser


if __name__ == '__main__':
  main()
