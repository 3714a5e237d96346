"""Answers over HTTP what detectors find, or sorts a folder.

  simplenet serve --detector=FILE
  simplenet serve --detector=FILE --watch=IN --move=OUT

At http://127.0.0.1:8000 is a page to drop images on. Programs send images to
/v1/detectors/NAME:predict. With --watch, images that come into IN are judged
and moved to OUT/ok, OUT/not_ok or OUT/unreadable. SIGHUP loads detectors anew;
SIGTERM ends the server once it has answered what has come.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

from absl import flags, logging

from simplenet_jax import cli
from simplenet_jax.console import Stop, caught, console
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.files import naming

_FLAGS = flags.FLAGS
flags.DEFINE_multi_string('detector', [], 'FILE or NAME=FILE; once for each.')
flags.DEFINE_string('host', '127.0.0.1', 'The address to listen on.')
flags.DEFINE_integer('port', 8000, 'Its port; 0 takes any.', 0, 2**16 - 1)
flags.DEFINE_string('token_file', None, 'A file with what clients must know.')
flags.DEFINE_float('max_wait_ms', 2, 'How long a batch waits for images.', 0)
flags.DEFINE_integer('max_batch', 16, 'The most images of a batch.', 1)
flags.DEFINE_float('max_body_mb', 32, 'The largest request, in MB.', 0)
flags.DEFINE_integer('max_pixels', 50_000_000, 'The largest image.', 1)
flags.DEFINE_integer('queue', 64, 'The most images that are held.', 1)
flags.DEFINE_float('timeout_s', 10, 'Seconds to ask, and to answer.', 0.1)
flags.DEFINE_enum('precision', 'float32', PRECISIONS, 'Of all computation.')
flags.DEFINE_string('watch', None, 'A folder that images come into.')
flags.DEFINE_string('move', None, 'The folder that they are moved to.')
flags.DEFINE_bool('pictures', False, 'Whether --watch draws pictures, too.')

_TICK_S, _LOOK_S = 0.1, 2.0  # Between looks at signals, and at files.


def _named(given: str) -> tuple[str, Path]:
  name, equals, path = given.partition('=')
  if not equals or Path(given).is_file():
    name, path = Path(given).name.removesuffix('.safetensors'), given
  if not re.fullmatch(r'[\w.-]+', name):
    told = f'{name!r} has more than letters and digits; say NAME={path}'
    raise ValueError(f'--detector={given}: {told}')
  return name, Path(path).expanduser()


def _token() -> str:
  path = _FLAGS.token_file
  if not path:
    return os.environ.get('SIMPLENET_TOKEN', '')
  with naming(Path(path), '--token_file takes a file with a line of text'):
    if found := Path(path).expanduser().read_text('utf-8').strip():
      return found
    raise ValueError('it is empty')


def _listen(host: str, port: int) -> socket.socket:
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=512)
  except OSError as error:
    told = f'--host={host} --port={port}: {error}; give another one'
    raise OSError(told) from None


async def _run(
  app: Any, listener: socket.socket, stop: Stop, told: str, watch: Any = None
) -> None:
  """Serves beside `watch` until `stop` is set; what has come is answered."""
  import uvicorn

  config = uvicorn.Config(
    app, ws='none', lifespan='off', log_config=None, log_level='error'
  )
  config.timeout_graceful_shutdown = 1
  config.timeout_keep_alive = 3600  # `_close_idle` is sooner.
  server: Any = uvicorn.Server(config)
  server.capture_signals = contextlib.nullcontext  # The caller has them.
  load = _keep_loaded(app, told)
  work = (server.serve([listener]), app.engine.run(), load, watch)
  tasks = [asyncio.create_task(one) for one in work if one]
  idle: dict[Any, float] = {}
  while not stop.is_set() and not any(task.done() for task in tasks):
    await asyncio.sleep(_TICK_S)
    _close_idle(server, idle, app.timeout_s)
  app.stopping = True
  stop.set()
  with contextlib.suppress(TimeoutError):
    async with asyncio.timeout(app.timeout_s):
      while app.under_way or not all(task.done() for task in tasks[3:]):
        await asyncio.sleep(_TICK_S)
  server.should_exit = True
  await asyncio.wait(tasks[:1])
  for task in tasks:
    if task.done():
      task.result()  # Raises what it failed with.


async def _keep_loaded(app: Any, told: str) -> None:
  """Loads detectors, and anew on SIGHUP and when their files change."""
  slots, again = app.slots.values(), asyncio.Event()
  asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.set)
  for slot in slots:
    await asyncio.to_thread(slot.load)
  console.print(told)
  while True:
    await asyncio.sleep(_LOOK_S)
    every = again.is_set()
    again.clear()
    for slot in slots:
      if slot.is_changed() or every:
        try:
          await asyncio.to_thread(slot.load)
          console.print(f'  {slot.name}: loaded anew from {slot.path}')
        except Exception as error:  # Whatever is wrong with the file.
          kept = '%s: %s; the earlier detector stays'
          logging.warning(kept, slot.name, error)


def _close_idle(server: Any, idle: dict[Any, float], seconds: float) -> None:
  """Ends connections on which no request comes, or no answer is taken."""
  # Uvicorn waits without end for the rest of a request's headers. `idle` keeps
  # since when connections are, after their last request.
  now, before = time.monotonic(), dict(idle)
  idle.clear()
  for one in list(server.server_state.connections):
    busy = one.cycle and not one.cycle.response_complete
    if not busy or one.transport.is_closing():
      since = idle[one, one.cycle] = before.get((one, one.cycle), now)
      if now - since > seconds:
        one.transport.abort()


def main() -> None:
  """Serves."""
  named, token = [*map(_named, _FLAGS.detector)], _token()
  source, target, host = _FLAGS.watch, _FLAGS.move, _FLAGS.host
  if not named or len(dict(named)) < len(named) or (source and named[1:]):
    told = 'each has a name of its own, NAME=FILE; --watch goes with one'
    raise ValueError(f'--detector is given {len(named)} times: {told}')
  if bool(source) != bool(target) or (_FLAGS.pictures and not source):
    raise ValueError('--watch and --move go together, and --pictures with them')
  with (
    _listen(host, _FLAGS.port) as listener,
    caught('answers what has come') as stop,
  ):
    # Wrong flags are told at once, before the seconds that jax takes to load.
    from simplenet_jax.serving.app import App
    from simplenet_jax.serving.engine import Engine, Slot
    from simplenet_jax.serving.watch import Watch

    address, port = listener.getsockname()[:2]
    host = f'[{host}]' if ':' in host else host
    is_local, hosts = ipaddress.ip_address(address).is_loopback, ()
    if is_local and not token:
      hosts = ('localhost', '127.0.0.1', '[::1]', host)
    elif not token:
      told = 'others on the network can ask, and see the last images'
      logging.warning('--host=%s without --token_file: %s', host, told)
    options = {'precision': _FLAGS.precision, 'batch_size': _FLAGS.max_batch}
    slots = {name: Slot(name, path, options) for name, path in named}
    engine = Engine(_FLAGS.max_wait_ms / 1e3, _FLAGS.queue)
    body = int(_FLAGS.max_body_mb * 2**20)
    limits = body, _FLAGS.max_pixels, _FLAGS.timeout_s
    app, watch = App(slots, engine, *limits, token, hosts), None
    told = f'Serves {", ".join(slots)} at http://{host}:{port}'
    if source:
      to = Watch(Path(source), cli.folder(target, '--move'), _FLAGS.pictures)
      watch = to.run(engine, slots[named[0][0]], stop)
      told += f'\nSorts what comes into {source} to {target}'
    console.print(f'Loads {", ".join(slots)}')
    asyncio.run(_run(app, listener, stop, told, watch))


if __name__ == '__main__':
  cli.run(main)
