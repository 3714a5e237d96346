import os
import signal
import subprocess
import sys
import threading

import pytest

from simplenet_jax.console import caught
from tests import commands

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def usual():
  """Signals raise KeyboardInterrupt, however the tests were started."""
  before = {n: signal.signal(n, signal.default_int_handler) for n in SIGNALS}
  yield signal.default_int_handler
  for number, handler in before.items():
    signal.signal(number, handler)


def handlers():
  return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_sets_the_event(usual, number):
  with pytest.raises(ValueError, match='in between'), caught('ends') as stop:
    assert not stop.is_set()
    os.kill(os.getpid(), number)
    assert stop.wait(5)
    assert stop.signal == number
    raise ValueError('in between')
  assert handlers() == [usual, usual]


STUCK = """
import os, signal, threading
from simplenet_jax.console import caught

with caught('saves heads') as stop:
  os.kill(os.getpid(), signal.{first})
  assert stop.wait(5)
  print('asked', flush=True)
  # A thread that does not listen would keep the process from ending.
  threading.Thread(target=threading.Event().wait, args=(60,)).start()
  os.kill(os.getpid(), signal.{second})
  threading.Event().wait(60)
"""


@pytest.mark.parametrize(('first', 'second'), [SIGNALS, SIGNALS[::-1]])
def test_a_second_signal_ends_the_process_at_once(first, second):
  code = STUCK.format(first=first.name, second=second.name)
  ended = commands.python('-c', code)
  assert ended.stdout.startswith('  stopping, saves heads; Ctrl-C')
  assert ended.stdout.endswith('asked\n')
  assert ended.returncode == -second


def test_other_threads_leave_signals_alone(usual):
  seen = []

  def run():
    with caught('ends') as stop:
      seen.extend([*handlers(), stop.is_set()])

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert seen == [usual, usual, False]


DEAF = """
import contextlib, time
from simplenet_jax import console

console._MOMENT = 0.1
with console.heeded():
  while True:
    with contextlib.suppress(BaseException):
      print('begun', flush=True)
      time.sleep(60)
"""


def test_who_does_not_heed_a_signal_is_ended():
  process = subprocess.Popen(
    [sys.executable, '-c', DEAF],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'begun\n'
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 143
  assert errors == 'stop: stopped; start the same command again\n'
