"""Puts load on `simplenet serve`, then hostile requests, and kills it.

  python -m benchmarks.serve --clients=8 --requests=2000 --hostile=1000

Clients send raw pixels to a server in a process of its own, while its detector
is swapped; each answer must equal `Detector`'s to 1e-5 and none may be lost.
Processor seconds of the server are compared with those of `Detector`'s own loop
in another process, in turns. Then come hostile requests (truncated, huge,
wrong, slow, many at a time), in which memory must not grow; then the server is
killed, started again, and stopped. Writes
benchmarks/results/serve.json and fails if anything did. It takes about six
minutes on two cores.
"""

import collections
import contextlib
import dataclasses
import io
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import numpy as np
from absl import flags
from PIL import Image

from benchmarks import timing
from benchmarks.faults import expect
from benchmarks.server import PATH, TIMEOUT_S, Server, hostile, send
from simplenet_jax import cli, demo
from simplenet_jax.detection import file

_CLIENTS = flags.DEFINE_integer('clients', 8, 'Clients at a time.', 1)
_REQUESTS = flags.DEFINE_integer('requests', 2000, 'Of all of them.', 8)
_HOSTILE = flags.DEFINE_integer('hostile', 1000, 'Hostile requests.', 0)
_DETECTOR = flags.DEFINE_string('detector', None, 'Else one is trained.')
_SIDE = flags.DEFINE_integer('side', 224, 'Of the images and input.', 32)
_TURNS = 4  # Of the server and of the detector.

# Detector's own loop, in a process of its own; scores, then for each line that
# comes the processor seconds of an image.
_OWN = """
import sys, time
import numpy as np
from simplenet_jax.detector import Detector
path, images, count = sys.argv[1:]
detector, images = Detector.load(path), [*np.load(images)]
found = [[one.score for one in detector.predict(images)] for _ in range(2)]
print(*found[1], flush=True)
for _ in sys.stdin:
  start, wall = time.process_time(), time.perf_counter()
  for _ in detector.predict((images * int(count))[: int(count)]):
    pass
  spent = time.process_time() - start, time.perf_counter() - wall
  print(*(one / int(count) for one in spent), flush=True)
"""


def show(folder: pathlib.Path) -> np.ndarray:
  """Makes the demo's images; returns those to ask about, uint8 RGB."""
  demo.generate(folder, categories=['gasket'], train=12, good=40, defective=20)
  (folder / demo.MARKER).unlink()
  side, paths = _SIDE.value, sorted(folder.glob('*/test/*/*.png'))
  shown = [Image.open(one).convert('RGB').resize((side, side)) for one in paths]
  return np.stack([np.asarray(one) for one in shown])


def train(data: pathlib.Path, workdir: pathlib.Path) -> pathlib.Path:
  """Trains EfficientNet-Lite0 on the images; returns the detector."""
  settings = {
    'data.root': data,
    'data.resize': _SIDE.value,
    'backbone.name': 'efficientnet_lite0',
    'engine.tensorboard': False,
  }
  options = [f'--config.{name}={value}' for name, value in settings.items()]
  command = '-m', 'simplenet_jax', 'train', '--config=folder', *options
  subprocess.run(  # noqa: S603 - our own.
    [sys.executable, *command, f'--workdir={workdir}'],
    check=True,
    stdout=subprocess.DEVNULL,
  )
  return workdir / 'detectors/gasket.safetensors'


def load(
  server: Server, images: np.ndarray, scores: np.ndarray, count: int
) -> tuple[list[float], list[float]]:
  """Sends images by all clients; returns what they waited, and thresholds."""
  numbers, lock, found = iter(range(count)), threading.Lock(), []
  path = f'{PATH}?height={images.shape[1]}&width={images.shape[2]}'

  def client() -> None:
    with contextlib.closing(server.connection()) as connection:
      while True:
        with lock:
          if (number := next(numbers, None)) is None:
            return
        index, start = number % len(images), time.perf_counter()
        status, told = server.ask(path, images[index].tobytes(), connection)
        wait = time.perf_counter() - start
        expect(status == 200, f'request {number}: {status}, {told}')
        error = abs(told['score'] - scores[index])
        expect(error <= 1e-5, f'request {number} is off by {error}')
        found.append((wait, told['threshold']))

  with futures.ThreadPoolExecutor(_CLIENTS.value) as pool:
    for done in [pool.submit(client) for _ in range(_CLIENTS.value)]:
      done.result()
  expect(len(found) == count, f'{count - len(found)} requests were lost')
  waits, limits = zip(*found, strict=True)
  return [*waits], [*limits]


def attack(
  server: Server, images: np.ndarray, scores: np.ndarray, first: int, count: int
) -> collections.Counter[str]:
  """Sends hostile requests, many at a time, and one honest one after each."""
  image, huge = io.BytesIO(), io.BytesIO()
  Image.fromarray(images[0]).save(image, 'png')
  Image.new('1', (9_000, 9_000)).save(huge, 'png')  # Few bytes, many pixels.
  kinds = hostile(image.getvalue(), huge.getvalue())

  def try_out(number: int) -> str:
    kind = [*kinds][number % len(kinds)]
    content, right = kinds[kind]
    answer = send(server, content, leave=kind == 'gone')
    expect(answer in right, f'{kind}: {answer}')
    status, found = server.ask(PATH, image.getvalue())
    expect(status in (200, 429), f'an honest request after {kind}: {status}')
    if status == 200:
      error = abs(found['score'] - scores[0])
      expect(error <= 1e-5, f'an honest request is off by {error}')
    return f'{kind}: {answer or "closed"}'

  with futures.ThreadPoolExecutor(40) as pool:
    numbers = range(first, first + count)
    return collections.Counter(pool.map(try_out, numbers))


def swapped(path: pathlib.Path, folder: pathlib.Path) -> float:
  """Writes a detector with another threshold in a file's place; returns it."""
  card, weights = file.load(path)
  limit = 1.0 + (card.thresholds.image or 0.0)
  thresholds = card.thresholds.replace(image=limit)
  made = folder / 'other.safetensors'
  file.save(made, dataclasses.replace(card, thresholds=thresholds), weights)
  made.replace(path)
  return limit


def main() -> None:
  """Runs the benchmark, prints it and writes its result."""
  count, limit = _REQUESTS.value // _TURNS, None
  with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
    folder = pathlib.Path(name)
    images = show(folder / 'data')
    path, given = folder / 'part.safetensors', _DETECTOR.value
    shutil.copy(given or train(folder / 'data', folder / 'run'), path)
    np.save(folder / 'images.npy', images)
    own = subprocess.Popen(  # noqa: S603 - our own.
      [sys.executable, '-c', _OWN, path, folder / 'images.npy', str(count)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    stack.callback(own.kill)
    assert own.stdin and own.stdout
    scores = np.array(own.stdout.readline().split(), float)
    server = Server(path)
    stack.callback(lambda: server.process.kill())
    print(f'the server is ready after {server.start_s:.1f} s')
    load(server, images, scores, 2 * _CLIENTS.value)
    rows = []
    for turn in range(_TURNS):
      print('again', file=own.stdin, flush=True)
      alone = [float(x) for x in own.stdout.readline().split()]
      if turn == _TURNS // 2:
        limit = swapped(path, folder)
      before = server.cpu_s(), time.process_time(), time.perf_counter()
      found = load(server, images, scores, count)
      now = server.cpu_s(), time.process_time(), time.perf_counter()
      spent = [(b - a) / count for a, b in zip(before, now, strict=True)]
      rows.append((*alone, *spent, *found))
      print(f'turn {turn + 1}: {alone[0] / spent[0]:.3f} of the detector')
    *seconds, waits, limits = zip(*rows, strict=True)
    expect(limits[-1][-1] == limit, 'the detector was not swapped')
    names = 'detector_cpu', 'detector_wall', 'server_cpu', 'clients_cpu', 'wall'
    means = [float(np.mean(one)) for one in seconds]
    spent = dict(zip(names, means, strict=True))
    memory, answers = [server.memory_mb()], collections.Counter()
    for half in range(2):
      many = _HOSTILE.value // 2
      answers += attack(server, images, scores, half * many, many)
      time.sleep(TIMEOUT_S + 1)  # Until the slow ones are closed.
      memory.append(server.memory_mb())
    expect(memory[2] < memory[1] + 50, f'memory grows: {memory} MB')
    server.end(signal.SIGKILL)
    again = Server(path, server.port)
    stack.callback(lambda: again.process.kill())
    load(again, images, scores, 4 * _CLIENTS.value)
    expect(again.end(signal.SIGTERM) == 0, 'SIGTERM does not end it with 0')
  timing.write(
    'serve',
    {
      'what': 'simplenet serve under load, beside the loop of its detector; '
      'processor and wall seconds of an image, waits of clients in seconds',
      'clients': _CLIENTS.value,
      'requests': count * _TURNS,
      'image': images.shape[1:],
      'detector': pathlib.Path(given).stem if given else 'demo, gasket',
      **spent,
      'images_per_processor_second_beside_detector': (
        spent['detector_cpu'] / spent['server_cpu']
      ),
      'turns': [row[0] / row[2] for row in rows],
      'wait_median': float(np.quantile(np.concatenate(waits), 0.5)),
      'wait_p99': float(np.quantile(np.concatenate(waits), 0.99)),
      'start_seconds': [server.start_s, again.start_s],
      'hostile': dict(sorted(answers.items())),
      'memory_mb': dict(
        zip(('before', 'half way', 'after'), memory, strict=True)
      ),
    },
  )


if __name__ == '__main__':
  cli.run(main)
