"""What the server answers over HTTP.

Errors are JSON with one sentence, `{"error": "..."}`. Bodies are bounded in
size, time and sum while they are read, images before they are decoded, and no
name that a client gives is ever opened.
"""

import asyncio
import base64
import dataclasses
import functools
import hmac
import io
import math
import re
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import prometheus_client as prometheus
from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from simplenet_jax.data import decoding
from simplenet_jax.data.frame import Frame, Size
from simplenet_jax.data.images import EmbeddedImage
from simplenet_jax.detection import output
from simplenet_jax.detection.thresholds import Prediction
from simplenet_jax.files import ASSETS
from simplenet_jax.serving.engine import Engine, Slot

_OPEN = ('/', '/healthz', '/readyz')  # To everybody: they tell no image.
_BODIES = 8  # How many of the largest bodies are held at a time.
_GROWN = 2**24  # Pixels that a resized image may always have.
_FILES = ('', 'application/octet-stream', 'application/x-www-form-urlencoded')
_QUERY = re.compile(
  '(picture|map)=[01]|(height|width)=[1-9][0-9]{0,5}|name=.{1,200}|'
  'channels=(rgb|bgr|gray|gray16)'
)


@dataclasses.dataclass
class App:
  """The ASGI application."""

  slots: dict[str, Slot]
  engine: Engine
  max_body: int  # Bytes.
  max_pixels: int  # Of an image.
  timeout_s: float  # For a body to come, and again for the answer.
  token: str  # Without one everybody may ask, but only under these names, if
  # any: a page of another site has a browser ask under a name of its own.
  hosts: tuple[str, ...]
  stopping: bool = False
  under_way: int = 0  # Requests.
  _bytes: int = 0  # Of their bodies.

  def __post_init__(self):
    engine, to = self.engine, self.engine.registry
    self._requests = prometheus.Counter(
      'simplenet_requests', 'Answers.', ['status'], registry=to
    )
    self._seconds = prometheus.Histogram(
      'simplenet_predict_seconds', 'Of whole requests.', registry=to
    )
    page = (ASSETS / 'serve.html').read_bytes()
    csp = {'Content-Security-Policy': "frame-ancestors 'none'"}
    recent, ok = engine.recent, {'status': 'ok'}
    # Starlette calls functions that are not async in threads.
    self._app = Starlette(
      routes=[
        Route('/', lambda _: Response(page, 200, csp, 'text/html')),
        Route('/healthz', lambda _: JSONResponse(ok)),
        Route('/readyz', lambda _: JSONResponse(ok)),
        Route('/metrics', self._metrics),
        Route('/v1/detectors', lambda _: JSONResponse(self._facts())),
        Route('/v1/detectors/{name}:predict', self._predict, methods=['POST']),
        Route('/v1/recent', lambda _: JSONResponse([x[0] for x in [*recent]])),
        Route('/v1/recent/{number:int}.png', self._picture),
      ],
      exception_handlers={
        HTTPException: lambda _, error: _refusal(error),
        ClientDisconnect: lambda *_: _refusal(HTTPException(400)),
        Exception: lambda *_: _refusal(HTTPException(500)),
      },
    )

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request within the limits, and counts it."""
    start, taken, status = time.perf_counter(), 0, 0
    until = asyncio.get_running_loop().time() + self.timeout_s

    async def bounded() -> Message:
      nonlocal taken
      try:
        async with asyncio.timeout_at(until):
          message = await receive()
      except TimeoutError:
        told = f'The body did not come within {self.timeout_s:g} s.'
        raise HTTPException(408, told) from None
      count = len(message.get('body', b''))
      taken, self._bytes = taken + count, self._bytes + count
      if taken > self.max_body:
        raise self._too_large()
      if self._bytes > _BODIES * self.max_body:
        raise _later(429, 'Too many large bodies are being sent.')
      return message

    async def noted(message: Message) -> None:
      nonlocal status
      if message['type'] == 'http.response.start':
        status = message['status']
      await send(message)

    self.under_way += 1
    try:
      refused = self._refused(scope)
      await (_refusal(refused) if refused else self._app)(scope, bounded, noted)
    finally:
      self.under_way -= 1
      self._bytes -= taken
      self._requests.labels(status).inc()
      if scope['method'] == 'POST':
        self._seconds.observe(time.perf_counter() - start)

  def _refused(self, scope: Scope) -> HTTPException | None:
    """Returns why a request is not answered, whatever it asks."""
    headers = dict(scope['headers'])
    host = re.sub(r':\d*$', '', headers.get(b'host', b'').decode('latin-1'))
    if self.hosts and host not in self.hosts:
      return HTTPException(403, f'The server is not called {host}.')
    given, token = headers.get(b'authorization', b''), self.token.encode()
    known = not token or hmac.compare_digest(given, b'Bearer ' + token)
    if not known and scope['path'] not in _OPEN:
      told = 'The server wants its token: Authorization: Bearer TOKEN.'
      return HTTPException(401, told, {'WWW-Authenticate': 'Bearer'})
    if int(headers.get(b'content-length', b'0')) > self.max_body:
      return self._too_large()
    if scope['method'] == 'POST' or scope['path'] == '/readyz':
      if self.stopping:
        return _later(503, 'The server is stopping.')
      if not all(slot.detector for slot in self.slots.values()):
        return _later(503, 'The detectors are being loaded.')
    return None

  def _too_large(self) -> HTTPException:
    most = f'{self.max_body / 2**20:g} MB'
    return HTTPException(413, f'The body is larger than {most}.')

  def _metrics(self, _: Request) -> Response:
    content = prometheus.generate_latest(self.engine.registry)
    return Response(content, media_type=prometheus.CONTENT_TYPE_LATEST)

  def _facts(self) -> list[dict[str, Any]]:
    return [
      {
        'name': name,
        'input': one.size,
        'threshold': one.threshold,
        'pixel_threshold': one.pixel_threshold,
        'promise': output.promise(one),
        'cautions': one.card.cautions,
      }
      for name, slot in self.slots.items()
      if (one := slot.detector)
    ]

  def _picture(self, request: Request) -> Response:
    for told, found in [*self.engine.recent]:
      if told['id'] == request.path_params['number']:
        return Response(_png(found), media_type='image/png')
    raise HTTPException(404, 'It is not among the last hundred images.')

  async def _predict(self, request: Request) -> Response:
    slot = self.slots.get(request.path_params['name'])
    if slot is None:
      names = ', '.join(self.slots)
      raise HTTPException(404, f'There is no such detector; there is {names}.')
    query = dict(request.query_params)
    for one in map('='.join, query.items()):
      if not _QUERY.fullmatch(one):
        raise HTTPException(400, f'The query cannot have {one}.')
    try:
      self.engine.check_room()  # Before the body is read.
      name, body = await read_body(request, self.max_body)
      assert slot.detector
      limits = self.max_pixels, slot.detector.card.frame
      read = functools.partial(image, body, query, *limits)
      order = 'bgr' if query.get('channels') == 'bgr' else 'rgb'
      async with asyncio.timeout(self.timeout_s):
        name = query.get('name', name)
        told, found = await self.engine.judge(slot, read, name, order)
    except asyncio.QueueFull:
      raise _later(429, 'Too many images are waiting.') from None
    except TimeoutError:
      told = f'The answer was not there within {self.timeout_s:g} s.'
      raise _later(503, told) from None
    except (ValueError, MemoryError) as error:
      status = 400 if isinstance(error, ValueError) else 503
      raise HTTPException(status, str(error)) from None
    told = dict(told)
    if query.get('picture') == '1':
      told['picture'] = _text(await asyncio.to_thread(_png, found))
    if query.get('map') == '1':
      top, left, bottom, right = found.frame.scored
      told['map'] = {
        'float32': _text(found.input_map.astype('<f4').tobytes()),
        'shape': found.input_map.shape,
        'box': (left, top, right - left, bottom - top),
      }
    return JSONResponse(told)


def image(
  body: bytes,
  query: dict[str, str],
  pixels: int,
  frame_of: Callable[[Size], Frame],
) -> Any:
  """Returns a body as `Detector.predict` takes it; 413 for more `pixels`."""
  channels = query.get('channels', 'rgb')
  size = [int(query[side]) for side in ('height', 'width') if side in query]
  if len(size) == 1 or ('gray' in channels and not size):
    raise HTTPException(400, 'Raw pixels need height and width in the query.')
  if is_file := not size:
    size = decoding.decode(
      io.BytesIO(body), lambda opened: (opened.height, opened.width), 'the body'
    )
  if math.prod(size) > pixels:
    most = f'{pixels / 1e6:g} million pixels'
    raise HTTPException(413, f'The image has more than {most}.')
  # Before a crop the shorter side is given: a strip grows without a bound.
  grown = math.prod(frame_of((size[0], size[1])).resized)
  if grown > max(pixels, _GROWN):
    raise HTTPException(413, 'The image is too elongated.')
  if is_file:
    place = PurePosixPath('image')
    return EmbeddedImage(place, 'body', lambda: body, len(body), (0, 0))
  kind = np.dtype('<u2' if channels == 'gray16' else 'u1')
  shape = *size, 1 if 'gray' in channels else 3
  if len(body) != (expected := math.prod(shape) * kind.itemsize):
    told = f'The body has {len(body)} bytes, these pixels have {expected}.'
    raise HTTPException(400, told)
  return np.frombuffer(body, kind).reshape(shape)


async def read_body(request: Request, most: int) -> tuple[str, bytes]:
  """Returns what a file is called, and its content; its stream is bounded."""
  kind = request.headers.get('content-type', '').partition(';')[0].lower()
  if kind == 'multipart/form-data':
    stream = request.stream()
    parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=0)
    parser.spool_max_size = most  # Images of clients are never on disk.
    try:
      (one,) = (await parser.parse()).values()
    except (MultiPartException, FormParserError, ValueError) as error:
      told = f'The form must hold one file and nothing else ({error}).'
      raise HTTPException(400, told) from None
    assert isinstance(one, UploadFile)
    content = await one.read()
    await one.close()
    return one.filename or '', content
  if kind in _FILES or kind.startswith('image/'):
    return '', await request.body()
  told = f'A body cannot be {kind}; send image/*, a form or octet-stream.'
  raise HTTPException(415, told)


def _png(found: Prediction) -> bytes:
  content = io.BytesIO()
  found.picture().save(content, 'png', compress_level=1)
  return content.getvalue()


def _later(status: int, told: str) -> HTTPException:
  return HTTPException(status, told, {'Retry-After': '1'})


def _refusal(error: Any) -> Response:
  content = {'error': error.detail}
  return JSONResponse(content, error.status_code, error.headers)


def _text(content: bytes) -> str:
  return base64.b64encode(content).decode()
