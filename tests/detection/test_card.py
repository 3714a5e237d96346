"""A detector's description: exact, and nonsense is refused."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simplenet_jax
from simplenet_jax.detection import thresholds
from simplenet_jax.detection.appearance import Appearance
from simplenet_jax.detection.card import FORMAT, Card
from simplenet_jax.detection.thresholds import Thresholds
from simplenet_jax.models import resnet
from simplenet_jax.models.simplenet import Network

NETWORK = Network('demo_resnet', (2, 3), 'reflect', 3, 24, 20, (32, 40), 4.0)
THRESHOLDS = Thresholds(
  image=0.1 + 0.2,
  pixel=-1e-300,
  target_rate=0.01,
  guaranteed_rate=1 / 3,
  images=2,
  median=2.0**-60,
  limiting_images=(('Schräubchen/äöü 日本.png', 1 / 7), ('b,\n.png', -0.0)),
  precision='bfloat16',
)


def make(network=NETWORK, crop=0, found=THRESHOLDS):
  return Card(
    name='Schräubchen v1.2',
    network=network,
    heads=3,
    resize=329,
    bits=16,
    crop=crop,
    margin=0.5,
    thresholds=found,
    provenance={
      'root': 'C:\\Bilder/ü\u2028',
      'seeds': [0, 1],
      'x': {'y': 1e-7},
    },
  )


APPEARANCE = Appearance.of([np.full((8, 8, 3), 9.5)], [(30, 40)])
CARDS = [
  make(),
  dataclasses.replace(
    make(found=thresholds.NONE),
    appearance=APPEARANCE,
    usual=(-1.5, 0.25),
    cautions=('its heads have learned nothing', 'a second one'),
  ),
  make(found=THRESHOLDS.replace(image=1.0)),
  make(Network('resnet50', (1,), 'zeros', 1, 8, 9, (48, 48), 0.0), crop=48),
]


@pytest.mark.parametrize('card', CARDS)
def test_a_card_comes_back_exactly(card):
  text = card.to_json()
  found = Card.from_json(text)
  assert found == card
  assert found.to_json() == text
  assert hash(found.network) == hash(card.network)  # It is a static argument.


def test_an_earlier_version_can_be_read():
  fields = json.loads(make().to_json()) | {'format': 'simplenet-jax detector 1'}
  for name in ('appearance', 'usual', 'cautions'):
    del fields[name]
  text = json.dumps(fields)
  assert Card.from_json(text) == make()


@pytest.mark.parametrize(
  'change',
  [
    {'format': 'simplenet-jax detector 3'},
    {'format': 'simplenet-jax detector 10', 'thresholds': 'of another kind'},
    {'colours': 'none'},
    {'network': {**dataclasses.asdict(NETWORK), 'attention': True}},
    {'thresholds': {**dataclasses.asdict(THRESHOLDS), 'of_pixels': 1}},
    {'appearance': {'infrared': 1.0}},
  ],
)
@pytest.mark.parametrize('version', ['9.1', simplenet_jax.__version__, None])
def test_a_later_version_is_told_and_not_called_damaged(change, version):
  provenance = {'versions': {'simplenet-jax': version}} if version else {}
  fields = json.loads(make().to_json()) | {'provenance': provenance} | change
  mine = simplenet_jax.__version__
  theirs = 'simplenet-jax 9.1,' if version == '9.1' else 'a simplenet-jax'
  with pytest.raises(ValueError, match='upgrade') as caught:
    Card.from_json(json.dumps(fields))
  assert str(caught.value) == (
    f'made by {theirs} newer than this {mine}: upgrade simplenet-jax'
  )


def test_a_portable_card_holds_names_alone():
  paths = {
    '/home/me/parts': 'parts',
    '/home/me/parts/': 'parts',
    '~/w.pth': 'w.pth',
    '../data/x': 'x',
    'C:\\Users\\me\\x.png': 'x.png',
    '\\\\server\\share\\x': 'x',
    'data/mvtec': 'data/mvtec',
    'NVIDIA H200': 'NVIDIA H200',
    'day 1/a.png': 'day 1/a.png',
  }
  card = dataclasses.replace(
    make(
      found=dataclasses.replace(
        THRESHOLDS, limiting_images=(('/a/b/c.png', 1.0),)
      )
    ),
    provenance={'data': {'root': list(paths)}, 'seeds': [0, None, 1.5]},
  )
  found = card.portable()
  assert found.provenance == {
    'data': {'root': list(paths.values())},
    'seeds': [0, None, 1.5],
  }
  assert found.thresholds.limiting_images == (('c.png', 1.0),)
  assert found.portable() == found


@pytest.mark.parametrize(
  'text', ['', 'null', '[]', '"x"', '3', '{}', '{"format":', '[' * 100_000]
)
def test_other_texts_are_refused(text):
  with pytest.raises(ValueError, match='not the description of a detector'):
    Card.from_json(text)


@pytest.mark.parametrize(
  ('path', 'value'),
  [
    ('name', 3),
    ('heads', 0),
    ('resize', -1),
    ('crop', 32),  # The network's input is another.
    ('margin', -0.5),
    ('appearance', {}),
    ('usual', [1.0, 0.0]),
    *(
      ('appearance', {**dataclasses.asdict(APPEARANCE), **change})
      for change in (
        {'mean': [1.0]},
        {'mean': 'x' * 192},
        {'std': [float('nan')] * 192},
        {'std': [-1.0] * 192},
        {'gray': [1.0, '2']},
        {'aspect': [0.0, 1.0]},
        {'farthest': None},
      )
    ),
    ('network.architecture', 'vgg'),
    ('network.levels', []),
    ('network.levels', [3, 2]),
    ('network.padding', 'same'),
    ('network.patch_size', 0),
    ('network.target_dim', 2**16),
    ('network.size', [32, 0]),
    ('network.smoothing', float('nan')),
    pytest.param('network.smoothing', 10**400, id='beyond-floats'),
    ('thresholds.image', float('nan')),
    ('thresholds.pixel', True),
    ('thresholds.asked', 0),
    ('thresholds.promised', [0.1]),
    ('thresholds.by_hand', ['median']),
    ('thresholds', {'by_hand': ['image']}),  # It is not there.
    ('format', 'simplenet-jax detector'),
    ('format', None),
    ('thresholds.precision', 'half'),
    ('thresholds.drivers', [['a.png']]),
  ],
)
def test_values_that_make_no_sense_are_refused(path, value):
  fields = json.loads(make().to_json())
  *folders, last = path.split('.')
  where = fields
  for folder in folders:
    where = where[folder]
  where[last] = value
  with pytest.raises(ValueError, match=r'its (description|format)'):
    Card.from_json(json.dumps(fields))


JSON = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.sampled_from([10**400, -1, 0, 2**16, 2**63])
  | st.floats()
  | st.sampled_from(['', 'resnet18', 'zeros', '4', '\ud800', FORMAT]),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
      st.sampled_from(['a', 'size', 'image']), inner, max_size=2
    )
  ),
  max_leaves=4,
)


def containers(value):
  """Yields every list and dictionary in some JSON."""
  if isinstance(value, dict | list):
    yield value
    for inner in value.values() if isinstance(value, dict) else value:
      yield from containers(inner)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_mutated_card_is_refused_or_one_that_works(data):
  fields = copy.deepcopy(
    json.loads(data.draw(st.sampled_from(CARDS)).to_json())
  )
  for _ in range(data.draw(st.integers(1, 2))):
    where = data.draw(st.sampled_from([c for c in containers(fields) if c]))
    keys = list(where) if isinstance(where, dict) else list(range(len(where)))
    key = data.draw(st.sampled_from(keys))
    if data.draw(st.integers(0, 4)):
      where[key] = data.draw(JSON)
    else:
      del where[key]
  try:
    card = Card.from_json(json.dumps(fields))
  except ValueError as error:
    assert '\n' not in str(error)
    return
  assert Card.from_json(card.to_json()) == card
  assert list(resnet.layers(card.network.architecture, card.network.levels))
  assert card.frame((40, 52)).input == card.network.size
  if (card.thresholds.target_rate or 1) > 1e-12:
    assert thresholds.describe(card.thresholds)
  hash(card.network)
