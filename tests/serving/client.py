"""Asks the application without a socket, as uvicorn does."""

import asyncio
import io
import json

from PIL import Image

from simplenet_jax.serving.app import App
from simplenet_jax.serving.engine import Engine, Slot

RAW = 'application/octet-stream'


class Answer:
  def __init__(self, status, headers, body):
    self.status, self.headers, self.body = status, headers, body

  @property
  def json(self):
    return json.loads(self.body)


class Client:
  """Asks an application, as uvicorn does."""

  def __init__(self, app):
    self.app = app

  async def ask(self, target, body=None, kind=RAW, method=None, **headers):
    """Sends a body, bytes or chunks of it; None in a list never comes."""
    given, _, query = target.partition('?')
    chunks = [body] if isinstance(body, bytes) else list(body or [b''])
    named = {'host': 'localhost:8000', 'content-type': kind, **headers}
    scope = {
      'type': 'http',
      'method': method or ('GET' if body is None else 'POST'),
      'path': given,
      'raw_path': given.encode(),
      'root_path': '',
      'query_string': query.encode(),
      'headers': [(k.encode(), v.encode()) for k, v in named.items()],
    }
    said = []

    async def receive():
      chunk = chunks.pop(0)
      if chunk is None:
        await asyncio.Event().wait()
      return {'type': 'http.request', 'body': chunk, 'more_body': bool(chunks)}

    async def send(message):
      said.append(message)

    await self.app(scope, receive, send)
    found = {k.decode(): v.decode() for k, v in said[0]['headers']}
    content = b''.join(one.get('body', b'') for one in said[1:])
    return Answer(said[0]['status'], found, content)


def serve(path, talk, **options):
  """Runs `talk` with a client of a server that is ready."""

  async def run():
    slot = Slot('part', path, {})
    engine = Engine(options.pop('max_wait_s', 0.0), options.pop('queue', 8))
    usual = {'max_body': 100_000, 'max_pixels': 10_000, 'timeout_s': 5.0}
    usual |= {'token': '', 'hosts': (), **options}
    slot.load()
    task = asyncio.create_task(engine.run())
    try:
      return await talk(Client(App({'part': slot}, engine, **usual)))
    finally:
      task.cancel()

  return asyncio.run(run())


def ask(path, *arguments, options=None, **headers):
  return serve(
    path, lambda client: client.ask(*arguments, **headers), **(options or {})
  )


def png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'png')
  return file.getvalue()


def form(content, name='part.png'):
  head = f'--x\r\nContent-Disposition: form-data; name="a"; filename="{name}"'
  body = head.encode() + b'\r\n\r\n' + content + b'\r\n--x--\r\n'
  return body, 'multipart/form-data; boundary=x'
