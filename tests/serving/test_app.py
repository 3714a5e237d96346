"""What the server answers, asked without a socket."""

import asyncio
import base64
import dataclasses
import hashlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from starlette.exceptions import HTTPException

from simplenet_jax.detector import Detector
from simplenet_jax.serving import app
from tests.detection import detectors
from tests.serving.client import RAW, ask, form, png, serve

PREDICT = '/v1/detectors/part:predict'


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  path = tmp_path_factory.mktemp('serving') / 'part.safetensors'
  detectors.make(thresholds=True, levels=(1,)).save(path)
  return path


@pytest.fixture(scope='module')
def detector(path):
  return Detector.load(path)


@pytest.mark.parametrize(
  'how', ['file', 'form', 'rgb', 'bgr', 'gray16', 'gray']
)
def test_answers_are_the_detector_s(path, detector, how):
  pixels = next(detectors.arrays())
  height, width, _ = pixels.shape
  size = f'?height={height}&width={width}&channels={how}'
  if how == 'gray16':
    pixels = pixels[..., :1].astype(np.uint16) * 257
  if how == 'gray':
    pixels = pixels[..., :1]
  (expected,) = detector.predict(pixels)
  sent = pixels[..., ::-1] if how == 'bgr' else pixels
  target, body, kind = PREDICT + size, sent.tobytes(), RAW
  if how in ('file', 'form'):
    target, body, kind = PREDICT, png(pixels), 'image/png'
  if how == 'form':
    body, kind = form(body)
  found = ask(path, target, body, kind)
  assert found.status == 200, found.body
  assert found.json['score'] == pytest.approx(expected.score, abs=1e-5)
  assert found.json['threshold'] == detector.thresholds.image
  assert found.json['verdict'] in ('normal', 'anomalous')
  assert (found.json['height'], found.json['width']) == (height, width)


def test_maps_and_pictures_come_on_request(path, detector):
  pixels = next(detectors.arrays())
  (expected,) = detector.predict(pixels)

  async def talk(client):
    found = await client.ask(f'{PREDICT}?map=1&picture=1&name=a', png(pixels))
    shown = await client.ask(f'/v1/recent/{found.json["id"]}.png')
    return found.json, shown.body, (await client.ask('/v1/recent')).json

  found, shown, recent = serve(path, talk)
  grid = found['map']
  values = np.frombuffer(base64.b64decode(grid['float32']), '<f4')
  values = values.reshape(grid['shape'])
  np.testing.assert_allclose(values, expected.input_map, atol=1e-5)
  assert grid['box'] == [0, 0, pixels.shape[1], pixels.shape[0]]
  assert base64.b64decode(found['picture']) == shown
  assert Image.open(io.BytesIO(shown)).format == 'PNG'
  assert [one['path'] for one in recent] == ['a']


def hostile():
  image = png(next(detectors.arrays()))
  yield 400, PREDICT, b'', 'image/png'
  yield 400, PREDICT, image[: len(image) // 2], 'image/png'
  yield 400, PREDICT, b'GIF89a' + bytes(100), 'image/gif'
  yield 400, PREDICT, b'--x\r\n', 'multipart/form-data; boundary=x'
  yield 400, PREDICT, b'--x\r\n', 'multipart/form-data'
  yield 400, f'{PREDICT}?height=5&width=5', bytes(74), RAW
  yield 400, f'{PREDICT}?height=5', bytes(75), RAW
  yield 400, f'{PREDICT}?height=-5&width=5', bytes(75), RAW
  yield 400, f'{PREDICT}?channels=gray', image, RAW
  yield 400, f'{PREDICT}?pictures=1', image, RAW
  yield 404, '/v1/detectors/..%2fpart:predict', image, 'image/png'
  yield 404, '/v1/recent/1.png', None, RAW
  yield 404, '/etc/passwd', None, RAW
  yield 413, PREDICT, [bytes(60_000)] * 2, RAW  # Chunked: no length is told.
  yield 413, f'{PREDICT}?height=200&width=200', bytes(9), RAW
  yield 413, PREDICT, png(np.zeros((101, 100), np.uint8)), 'image/png'
  yield 415, PREDICT, b'{}', 'application/json'


@pytest.mark.parametrize(('status', 'target', 'body', 'kind'), [*hostile()])
def test_refusals_are_one_sentence(path, status, target, body, kind):
  found = ask(path, target, body, kind)
  assert found.status == status, found.body
  told = found.json['error']
  assert len(told.splitlines()) == 1
  assert str(path.parent) not in told


def test_strips_do_not_grow_without_bound(detector):
  card = dataclasses.replace(detector.card, crop=224, resize=256)
  body = png(np.zeros((16, 5000), np.uint8))  # 256 x 80000 before the crop.
  with pytest.raises(HTTPException, match='too elongated'):
    app.image(body, {}, 10**6, card.frame)
  assert app.image(body, {}, 10**6, detector.card.frame)


def test_bodies_are_refused_by_their_length_before_they_come(path):
  given = {'content-length': '100001'}
  assert ask(path, PREDICT, [None], **given).status == 413


def test_a_body_that_does_not_come_is_given_up(path):
  given = {'options': {'timeout_s': 0.05}}
  assert ask(path, PREDICT, [b'a', None], **given).status == 408


def test_more_images_than_are_held_are_refused(path):
  async def talk(client):
    image = png(next(detectors.arrays()))
    return await asyncio.gather(*(client.ask(PREDICT, image) for _ in range(9)))

  found = serve(path, talk, queue=4)
  assert [one.status for one in found] == [200] * 4 + [429] * 5
  assert found[-1].headers['retry-after']


def test_clients_share_batches_on_accelerators(path, detector):
  pixels = list(detectors.arrays())
  expected = [one.score for one in detector.predict(pixels)]

  async def talk(client):
    (slot,) = client.app.slots.values()
    slot.detector = detectors.as_on_accelerators(detector, batch_size=3)
    asked = (client.ask(PREDICT, png(one)) for one in pixels)
    found = [one.json['score'] for one in await asyncio.gather(*asked)]
    return found, (await client.ask('/metrics')).body.decode()

  # Full batches do not wait as long.
  found, metrics = serve(path, talk, max_wait_s=60.0, timeout_s=60.0)
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert 'simplenet_batch_images_count 2.0' in metrics
  assert 'simplenet_batch_images_sum 6.0' in metrics


def test_only_who_knows_the_token_is_answered(path):
  options = {'options': {'token': 'secret'}}
  assert ask(path, '/v1/recent', **options).status == 401
  wrong = {'authorization': 'Bearer secre'}
  assert ask(path, '/metrics', **options, **wrong).status == 401
  assert ask(path, PREDICT, b'', **options).status == 401
  right = {'authorization': 'Bearer secret'}
  assert ask(path, '/v1/recent', **options, **right).status == 200
  for open_to_all in ('/', '/healthz', '/readyz'):
    assert ask(path, open_to_all, **options).status == 200


def test_other_names_are_not_answered(path):
  options = {'options': {'hosts': ('localhost',)}}
  assert ask(path, '/', **options).status == 200
  assert ask(path, '/', **options, host='elsewhere.org:8000').status == 403


def test_a_server_that_stops_takes_no_more(path):
  async def talk(client):
    client.app.stopping = True
    paths = ('/healthz', '/readyz')
    return [(await client.ask(one)).status for one in paths] + [
      (await client.ask(PREDICT, b'')).status
    ]

  assert serve(path, talk) == [200, 503, 503]


def test_detectors_and_metrics_are_told(path):
  async def talk(client):
    (slot,) = client.app.slots.values()
    rough = dataclasses.replace(slot.detector.thresholds, precision='bfloat16')
    slot.detector.thresholds = rough
    await client.ask(PREDICT, png(next(detectors.arrays())))
    await client.ask(PREDICT, b'')
    one = await client.ask('/v1/detectors')
    return one.json, (await client.ask('/metrics')).body.decode()

  found, metrics = serve(path, talk)
  (one,) = found
  assert one['name'] == 'part'
  assert 'found in bfloat16; in float32' in one['promise'][-1]
  assert one['promise']
  assert str(path.parent) not in json.dumps(found)
  lines = metrics.splitlines()
  assert 'simplenet_requests_total{status="400"} 1.0' in lines
  assert 'simplenet_predict_seconds_count 2.0' in lines
  assert 'simplenet_batch_images_sum 1.0' in lines
  assert re.search(r'simplenet_images_total\{detector="part",verdict=', metrics)
  assert 'simplenet_images_held 0.0' in lines


def test_requests_keep_the_detector_that_they_came_for(path, tmp_path):
  """A swap while images wait changes neither their answers nor loses one."""
  image = png(next(detectors.arrays()))
  other = tmp_path / 'part.safetensors'
  detectors.make(size=(40, 32), levels=(1,)).save(other)

  async def talk(client):
    (slot,) = client.app.slots.values()
    before = asyncio.gather(*(client.ask(PREDICT, image) for _ in range(4)))
    await asyncio.sleep(0)
    slot.path = other
    slot.load()
    after = await client.ask(PREDICT, image)
    return [one.json for one in [*await before, after]]

  *before, after = serve(path, talk)
  assert len({one['score'] for one in before}) == 1
  assert before[0]['threshold'] and after['threshold'] is None


def test_the_page_runs_its_own_script_alone(path):
  """Where it was changed: the new digests belong into its head."""
  found = ask(path, '/')
  assert 'text/html' in found.headers['content-type']
  assert 'frame-ancestors' in found.headers['content-security-policy']
  page = found.body.decode()
  assert not re.findall('(?:src|href)=', page)
  policy = re.search(r'Security-Policy" content="(.*?)"', page)[1]
  assert policy.startswith("default-src 'none'; ")
  for tag in ('style', 'script'):
    content = re.search(f'<{tag}>(.*?)</{tag}>', page, re.DOTALL)[1]
    digest = hashlib.sha256(content.encode()).digest()
    own = base64.b64encode(digest).decode()
    assert f"{tag}-src 'sha256-{own}'" in policy
