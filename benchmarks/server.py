"""A server in a process of its own, and what hostile clients send to it."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import time
from typing import Any

from benchmarks.faults import expect

_HZ = os.sysconf('SC_CLK_TCK')
TIMEOUT_S = 3.0  # The server's.
PATH = '/v1/detectors/part:predict'


class Server:
  """A server in a process of its own, ready to be asked."""

  def __init__(self, path: pathlib.Path, port: int = 0):
    self._begun = time.perf_counter()
    with socket.create_server(('127.0.0.1', port)) as free:
      self.port = free.getsockname()[1]
    options = f'--port={self.port}', f'--timeout_s={TIMEOUT_S}'
    command = '-m', 'simplenet_jax', 'serve', f'--detector=part={path}'
    self.process = subprocess.Popen(  # noqa: S603 - our own.
      [sys.executable, *command, *options, '--max_body_mb=4', '--queue=64'],
      stdout=subprocess.DEVNULL,
    )
    while self.ask('/readyz')[0] != 200:
      expect(self.process.poll() is None, 'the server does not start')
      time.sleep(0.1)
    self.start_s = time.perf_counter() - self._begun

  def connection(self) -> http.client.HTTPConnection:
    """Returns a new connection."""
    return http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)

  def ask(
    self, path: str, body: Any = None, connection: Any = None, **headers: str
  ) -> tuple[int, Any]:
    """Returns the status, 0 for none, and what the answer holds."""
    one = connection or self.connection()
    try:
      one.request('GET' if body is None else 'POST', path, body, headers)
      answer = one.getresponse()
      content = answer.read()
      is_json = 'json' in answer.headers.get('content-type', '')
      return answer.status, json.loads(content) if is_json else content
    except (OSError, http.client.HTTPException):
      return 0, None
    finally:
      if not connection:
        one.close()

  def cpu_s(self) -> float:
    """Returns the processor seconds that the process has used."""
    text = pathlib.Path(f'/proc/{self.process.pid}/stat').read_text()
    return sum(map(int, text.rpartition(')')[2].split()[11:13])) / _HZ

  def memory_mb(self) -> float:
    """Returns its resident memory."""
    text = pathlib.Path(f'/proc/{self.process.pid}/statm').read_text()
    return int(text.split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20

  def end(self, number: int) -> int:
    """Sends a signal, and returns the exit status."""
    self.process.send_signal(number)
    return self.process.wait(timeout=60)


def post(
  body: bytes, path: str = PATH, length: int | str = '', **headers: str
) -> bytes:
  """Returns a request as it is sent."""
  lines = [f'POST {path} HTTP/1.1', 'Host: localhost']
  if 'transfer_encoding' not in headers:
    lines.append(f'Content-Length: {length or len(body)}')
  lines += [f'{name.replace("_", "-")}: {x}' for name, x in headers.items()]
  return '\r\n'.join([*lines, '', '']).encode() + body


def hostile(image: bytes, huge: bytes) -> dict[str, tuple[bytes, set[int]]]:
  """Returns what to send, by kind, and the statuses that are right.

  0 stands for a connection that is closed without an answer.
  """
  form = {'content_type': 'multipart/form-data; boundary=x'}
  part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
  chunks = b'%x\r\n%s\r\n' % (2**20, bytes(2**20)) * 5
  chance = random.Random(0)  # noqa: S311
  return {
    'half a file': (post(image[: len(image) // 2]), {400}),
    'half a body': (post(image[:99], length=len(image)), {408}),
    'huge length': (post(b'', length=10**15), {413}),
    'huge chunks': (post(chunks, transfer_encoding='chunked'), {413}),
    'huge picture': (post(huge), {413}),
    'wrong kind': (post(b'{}', content_type='application/json'), {415}),
    'wrong form': (post(part + bytes(999), **form), {400}),
    'wrong size': (post(image, f'{PATH}?height=9&width=9'), {400}),
    'wrong query': (post(image, f'{PATH}?threshold=0'), {400}),
    'wrong path': (post(image, '/v1/detectors/..%2f..%2fa:predict'), {404}),
    'no HTTP': (chance.randbytes(999), {0, 400}),
    'slow headers': (post(b'')[:40], {0}),
    'endless headers': (b'GET / HTTP/1.1\r\nA: ' + b'a' * 300_000, {0, 400}),
    'gone': (post(image[:99], length=len(image)), {0}),
    'many at a time': (post(image) * 20, {200, 429}),
  }


def send(server: Server, content: bytes, leave: bool) -> int:
  """Sends bytes as they are; returns the status that comes, 0 for none."""
  with socket.create_connection(('127.0.0.1', server.port), 60) as one:
    with contextlib.suppress(OSError):
      one.sendall(content)
    with contextlib.suppress(OSError, IndexError, ValueError):
      return 0 if leave else int(one.recv(99).split()[1])
  return 0
