"""A server in a process of its own."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time

import pytest

from tests.detection import detectors


def until(holds, seconds=60):
  """Waits for something that takes a moment, longer on a busy machine."""
  end = time.monotonic() + seconds
  while not (found := holds()):
    assert time.monotonic() < end
    time.sleep(0.05)
  return found


# As where the locale is a person's: only text can be printed.
PRINTED = {'PYTHONUNBUFFERED': '1', 'PYTHONIOENCODING': 'utf-8:strict'}


class Server:
  def __init__(self, folder, *flags):
    detectors.make(thresholds=True, levels=(1,)).save(folder / 'part')
    self.told = folder / 'told'
    command = '-m', 'simplenet_jax.serve', f'--detector={folder / "part"}'
    with self.told.open('w') as file:
      self.process = subprocess.Popen(
        [sys.executable, *command, '--port=0', *flags],
        stdout=file,
        stderr=subprocess.STDOUT,
        env=os.environ | PRINTED,
      )
    until(lambda: 'Serves' in self.told.read_text())
    self.port = int(self.told.read_text().split(':', 3)[2].split()[0])

  def connection(self):
    return http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)

  def ask(self, path, body=None):
    with contextlib.closing(self.connection()) as one:
      one.request('GET' if body is None else 'POST', path, body)
      answer = one.getresponse()
      return answer.status, json.loads(answer.read())


@pytest.fixture
def served(tmp_path):
  made = []

  def serve(*flags):
    made.append(Server(tmp_path, *flags))
    return made[-1]

  yield serve
  for one in made:
    one.process.kill()
    one.process.wait()
