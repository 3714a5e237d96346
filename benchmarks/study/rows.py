"""What the study tries: distances, heads, and how they make a score."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Distance:
  """Nearest neighbours: which patches are kept, and in which space."""

  size: int = 4000  # Patches of the bank.
  pool: int = 50_000  # What they are chosen from.
  coreset: bool = True  # Greedy k-center; else they are drawn at random.
  dims: tuple[int, int] = (0, 0)  # Of a level and of a patch; 0: all channels.
  whitened: float | None = None  # The share of the mean variance added.
  components: int = 0  # Principal ones that are kept; 0: all.
  neighbours: int = 1  # Whose distances are averaged.
  draws: int = 1  # Banks, each of another draw, whose distances are averaged.
  apart: bool = False  # Each level has a bank of its own; they are averaged.
  local: float = 0.0  # The share taken off of what is usual at the neighbour.


@dataclasses.dataclass(frozen=True)
class Heads:
  """Heads: how they are trained, and how many are averaged."""

  steps: int = 500  # Of 1,024 patches, drawn from all.
  hidden: int = 512
  loss: str = 'cross_entropy'
  noise: str = 'plain'  # See `heads.noise`.
  sigma: tuple[float, float] = (0.25, 0.25)  # Drawn between, log-uniformly.
  count: int = 1
  average: float = 0.0  # Of weights, see `step.averaged`.
  adaptor: str = 'linear'
  pasted: int = 0  # Defects on good images, see `data.pasting`.


@dataclasses.dataclass(frozen=True)
class Row:
  """A way to score: a distance, heads or both."""

  told: str  # What it tries.
  distance: Distance | None = None
  heads: Heads | None = None
  weight: float = 0.25  # Of the heads beside a distance, each in its units.
  score: str = 'map'  # What an image's score is the highest of.
  smoothing: float = 6.0  # Sigma of maps, in pixels.
  confirmed: bool = False  # Whether it is tried on the kept parts, too.


_CORESET, _HEAD = Distance(), Heads()


def _alone(told: str, confirmed=False, **changes) -> Row:
  return Row(told, Distance(**changes), None, 0, 'patch', 4.0, confirmed)


def _head(told: str, confirmed=False, **changes) -> Row:
  return Row(told, None, Heads(**changes), 1, 'patch', 4.0, confirmed)


def _both(told: str, distance: Distance = _CORESET, **changes) -> Row:
  return Row(told, distance, **{'heads': _HEAD, **changes})


def _pasted(told: str, weight=0.25, distance: Distance = _CORESET) -> Row:
  heads = Heads(count=4, pasted=400)
  return Row(told, distance, heads, weight, confirmed=True)


# The first is what the others are compared with.
BASELINE = 'random 8,000'
DEFAULT = 'both, four heads, weight .35, pasted'  # Of configs/folder.py.
# Tried with few images.
FEW = (BASELINE, 'coreset 4,000', 'map 6', 'head', 'both', DEFAULT)
ROWS = {
  BASELINE: _alone(
    'nearest neighbours, drawn at random',
    size=8000,
    coreset=False,
    confirmed=True,
  ),
  'random 2,000': _alone('fewer of them', size=2000, coreset=False),
  'random 32,000': _alone('more of them', size=32_000, coreset=False),
  'coreset 2,000': _alone('chosen to cover all patches', size=2000),
  'coreset 4,000': _alone('more of them, chosen', confirmed=True),
  'coreset 4,000 of 20,000': _alone('from fewer', pool=20_000),
  'coreset 4,000 of 200,000': _alone('from more', pool=200_000, confirmed=True),
  'coreset 8,000 of 100,000': _alone(
    'more, from more', size=8000, pool=100_000, confirmed=True
  ),
  'three neighbours': _alone('the mean of three distances', neighbours=3),
  'pooled 128/256': _alone("the paper's pooling", dims=(128, 256)),
  'pooled 256/512': _alone("the paper's pooling", dims=(256, 512)),
  'whitened 1': _alone('features whitened, shrunk', whitened=1.0),
  'whitened .1': _alone('features whitened', whitened=0.1),
  'components 128': _alone('principal components', components=128),
  'components 64': _alone('principal components', components=64),
  'map 4': Row('an image scores as its map does', _CORESET, smoothing=4.0),
  'map 6 of 200,000': Row(
    'chosen from more', Distance(pool=200_000), confirmed=True
  ),
  'map 6 of three': Row('the mean of three distances', Distance(neighbours=3)),
  'map 6': Row('smoother maps', _CORESET, confirmed=True),
  'map 6, local density': Row('less what is usual there', Distance(local=1.0)),
  'map 6, local density, half': Row('half of that', Distance(local=0.5)),
  'map 6, levels apart': Row('a bank for each level', Distance(apart=True)),
  'map 6, two draws': Row('the mean of two banks', Distance(draws=2)),
  'map 6, 8,000 of 100,000': Row(
    'twice as many of twice as many',
    Distance(size=8000, pool=100_000),
    confirmed=True,
  ),
  'map 6, 8,000 of 200,000': Row(
    'more, chosen from more',
    Distance(size=8000, pool=200_000),
    confirmed=True,
  ),
  'map 8': Row('smoother still', _CORESET, smoothing=8.0),
  'head': _head('one head, 500 steps'),
  'head, truncated L1': _head("the paper's loss", loss='truncated_l1'),
  'head, 1,500 steps': _head('trained longer', steps=1500),
  'head, 150 steps': _head('trained shorter', steps=150),
  'head, hidden 1,024': _head('twice as wide', hidden=1024),
  'head, sigma .12': _head('half the noise', sigma=(0.12, 0.12)),
  'head, sigma .5': _head('twice the noise', sigma=(0.5, 0.5)),
  'head, scales': _head('noise of many scales', sigma=(0.05, 0.5)),
  'head, wide scales': _head('of more scales', sigma=(0.1, 2.0)),
  'head, coloured': _head(
    "noise with the features' covariance", noise='colour'
  ),
  'head, spacing': _head('sigma by distances to neighbours', noise='spacing'),
  'head, masked': _head('noise in some dimensions', noise='mask'),
  'head, mixed': _head('half-way to another patch', noise='mix'),
  'head, centre': _head('noise away from the centre', noise='centre'),
  'head, gradient': _head('noise pushed to look normal', noise='gradient'),
  'head, averaged': _head('weights averaged', average=15.0),
  'head, no adaptor': _head('without an adaptor', adaptor='identity'),
  'heads': _head('the mean of four heads', count=4, confirmed=True),
  'both, weight .15': _both('less of the head', weight=0.15),
  'both': _both('distance and one head', confirmed=True),
  'both, weight .5': _both('more of the head', weight=0.5),
  'both, weight 1': _both('as much of the head', weight=1.0),
  'both, patch': _both('the highest patch', score='patch', smoothing=4.0),
  'both, four heads': _both('four heads', heads=Heads(count=4), confirmed=True),
  'both, four heads, weight .5': _both(
    'more of four heads', heads=Heads(count=4), weight=0.5, confirmed=True
  ),
  'both, four heads of 200,000': _both(
    'chosen from more',
    Distance(pool=200_000),
    heads=Heads(count=4),
    confirmed=True,
  ),
  'both, four heads, 8,000 of 200,000': _both(
    'more, chosen from more',
    Distance(size=8000, pool=200_000),
    heads=Heads(count=4),
    confirmed=True,
  ),
  'both, four heads, two draws': _both(
    'the mean of two banks',
    Distance(draws=2),
    heads=Heads(count=4),
    confirmed=True,
  ),
  'heads, pasted': _head('four of them', count=4, pasted=400, confirmed=True),
  'both, four heads, pasted': _pasted('with a quarter of pasted defects'),
  'both, four heads, weight .35, pasted': _pasted('more of these', 0.35),
  'both, four heads, weight .5, pasted': _pasted('still more', 0.5),
  'both, four heads, weight 1, pasted': _pasted('as much of these', 1.0),
  'both, four heads, weight .35, pasted, 8,000 of 100,000': _pasted(
    'twice as many of twice as many', 0.35, Distance(size=8000, pool=100_000)
  ),
  'both, four heads, weight .5, pasted, 8,000 of 100,000': _pasted(
    'more of the heads', 0.5, Distance(size=8000, pool=100_000)
  ),
  'both, coreset 2,000': _both('fewer patches', Distance(size=2000)),
  'both, random 8,000': _both('not chosen', Distance(size=8000, coreset=False)),
  'both, 150 steps': _both('trained shorter', heads=Heads(steps=150)),
}
