"""All commands by their verbs: `simplenet COMMAND`.

Each is a module that runs on its own, too: `python -m simplenet_jax.predict`.
"""

import difflib
import runpy  # noqa: TID251
import sys

from simplenet_jax import __version__

# The module of each verb, and what it does.
COMMANDS = {
  'train': ('main', 'Trains detectors on good images, and evaluates them.'),
  'evaluate': ('evaluate', 'Evaluates a run again, or joins tables of runs.'),
  'sweep': ('sweep', 'Runs an experiment: a run per variant, and figures.'),
  'clean': (
    'clean',
    'Ranks good images by how little they look like the others.',
  ),
  'predict': ('predict', 'Scores images with a trained detector.'),
  'serve': ('serve', 'Answers over HTTP, or sorts what comes into a folder.'),
  'calibrate': ('calibrate', "Sets a detector's thresholds from good images."),
  'export': ('export', 'Exports a detector for programs without this package.'),
  'report': (
    'report',
    'Makes the page of a run again, or one of several runs.',
  ),
  'download': ('download', 'Downloads a public data set, and unpacks it.'),
  'prepare': ('prepare', 'Prepares a data set for TFDS, without TensorFlow.'),
  'import-released': (
    'import_released',
    "Makes a detector from a checkpoint of SimpleNet's released code.",
  ),
  'config': (
    'show_config',
    'Prints every setting with its meaning and values.',
  ),
}


def main() -> None:
  """Runs the command that the first argument names."""
  verb, *arguments = sys.argv[1:] or ['--help']
  if verb == 'help' and arguments:
    verb, arguments = arguments[0], ['--help']
  if verb in ('--help', '-h', 'help'):
    print('simplenet COMMAND, such as: simplenet train --config=demo')
    for name, (_, what) in COMMANDS.items():
      print(f'  {name:<16} {what}')
    print('simplenet COMMAND --help explains a command and its flags.')
  elif verb == '--version':
    print(f'simplenet-jax {__version__}')
  elif verb in COMMANDS:
    sys.argv = [f'simplenet {verb}', *arguments]
    module = f'{__package__}.{COMMANDS[verb][0]}'
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  else:
    close = difflib.get_close_matches(verb, COMMANDS, n=1)
    meant = f'; did you mean {close[0]}?' if close else ''
    print(f'error: there is no simplenet {verb}{meant}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
