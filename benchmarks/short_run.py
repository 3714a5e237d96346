"""A run of seconds, as a process of its own, and what it leaves."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

import safetensors
from PIL import Image
from safetensors.numpy import load_file

from benchmarks.fuzzing import ground
from simplenet_jax import demo
from simplenet_jax.detection import file as detectors


class ShortRun:
  """A run that can be started again and again.

  Attributes:
    folder: The folder that holds everything.
    whole: What an undisturbed run leaves.
    seconds: How long it takes, from its first line of progress to its end.
    bytes: How much room it takes.
  """

  def __init__(self, folder: pathlib.Path):
    """Makes the images and runs twice without disturbance: once to compile."""
    self.folder = folder
    demo.generate(folder / 'data', train=10, good=4, defective=6)
    self._running: subprocess.Popen | None = None
    for work in ('first', 'undisturbed'):
      process = self.start(work)
      self.wait_for_begin(process)
      start = time.monotonic()
      if process.wait():
        raise ValueError('the undisturbed run failed')
      self.seconds = time.monotonic() - start
    self.whole = self.left('undisturbed')
    files = (folder / 'undisturbed').rglob('*')
    self.bytes = sum(path.stat().st_size for path in files if path.is_file())

  def start(self, work: str) -> subprocess.Popen:
    """Begins a run in a work directory, or takes it up; ends one that hangs."""
    if self._running:
      self._running.kill()
    settings = {
      'data.categories': 'gasket,wood',
      'data.resize': 64,
      'seeds': '0,1',
      'train.epochs': 300,
      'evaluation.every': 100,
      'engine.checkpoint_seconds': 0.2,
      'engine.tensorboard': True,
    }
    place = self.folder / 'data', self.folder / work
    arguments = ground.training(*place, **settings)
    cache = {
      'JAX_COMPILATION_CACHE_DIR': str(self.folder / 'compiled'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    self._running = subprocess.Popen(  # noqa: S603 - our own.
      [sys.executable, '-m', *arguments],
      env={**os.environ, **cache},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    return self._running

  def wait_for_begin(self, process: subprocess.Popen) -> None:
    """Waits until a run says where results go."""
    for line in process.stdout or ():
      if line.startswith('  results '):
        break
    # What else it tells is read, lest the pipe fills up.
    rest = process.stdout.read if process.stdout else str
    threading.Thread(target=rest, daemon=True).start()

  def finish(self, work: str) -> tuple[int, str, str]:
    """Runs to the end; returns its status, what it told and its errors."""
    process = self.start(work)
    told, errors = process.communicate(timeout=300)
    return process.returncode, told, errors

  def checkpoints(self, work: str) -> list[pathlib.Path]:
    """Returns the checkpoints of a run that are whole."""
    found = (self.folder / work / 'checkpoints').rglob('*.safetensors')
    return sorted(path for path in found if path.parent.name.isdigit())

  def left(self, work: str) -> dict[str, Any]:
    """Returns what must be the same: figures, curves, heads, detectors."""
    workdir = self.folder / work
    table = json.loads((workdir / 'results.json').read_text())
    found = {k: table[k] for k in ('categories', 'mean', 'selected_on_test')}
    for path in sorted(workdir.rglob('*')):
      name = str(path.relative_to(workdir))
      if path.suffix == '.csv' and path.parent.name == 'curves':
        found[name] = path.read_text()
      elif path.suffix == '.safetensors':
        # Whatever the order of the arrays in it.
        found[name] = detectors.digest('', load_file(path))
    return {**found, 'page': (workdir / 'report.html').exists()}

  def differing(self, work: str) -> list[str]:
    """Returns what a run left otherwise than an undisturbed one."""
    left, whole = self.left(work), self.whole
    names = {*left, *whole}
    return sorted(name for name in names if left.get(name) != whole.get(name))

  def halves(self, work: str) -> list[str]:
    """Returns the files that are not whole, and do not say so by their name."""
    workdir = self.folder / work
    return [
      str(path.relative_to(workdir))
      for path in sorted(workdir.rglob('*'))
      if path.is_file()
      and not path.name.startswith('.')
      and 'checkpoint-tmp' not in str(path)
      and not _readable(path)
    ]


def _readable(path: pathlib.Path) -> bool:
  try:
    match path.suffix:
      case '.json':
        json.loads(path.read_text())
      case '.png':
        with Image.open(path) as image:
          image.load()
      case '.safetensors':
        load_file(path)
      case '.csv':
        return len({line.count(',') for line in path.open()}) == 1
      case '.html' | '.md':
        return path.read_text()[-1:] in '>\n'
  except (OSError, ValueError, SyntaxError, safetensors.SafetensorError):
    return False
  return True  # TensorBoard's files grow line by line.
