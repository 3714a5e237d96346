"""Every setting of a run: its default, its meaning, and the values it takes.

The defaults are those of the protocol `reference`. Nothing here imports jax.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# The precisions of matrix products.
PRECISIONS = ('float32', 'tensorfloat32', 'bfloat16')

_SIDE = 2**14  # Pixels.
_MOST = 2**31 - 1  # What devices count to.

# What values of a type are called, and which types stand for it.
TYPES = {
  bool: ('True or False', (bool,)),
  int: ('a whole number', (int,)),
  float: ('a number', (int, float)),
  str: ('a text', (str,)),
  tuple: ('a tuple', (tuple, list)),
}


class Rule(NamedTuple):
  """Which values a setting takes: a test, and the words for it."""

  accepts: Callable[[Any], bool]
  allowed: str


class Field(NamedTuple):
  """A setting of a run; without a rule it takes any value of its type."""

  default: Any
  meaning: str
  rule: Rule | None = None


def _one_of(*choices: str) -> Rule:
  return Rule(lambda x: x in choices, f'one of {", ".join(choices)}')


def _within(low: int, high: int, what: str = '') -> Rule:
  return Rule(lambda x: low <= x <= high, f'from {low} to {high}{what}')


_BANK = Rule(lambda x: x == 0 or 16 <= x <= 2**20, '0, or from 16 to a million')
_POSITIVE, _COUNT = _within(1, _MOST), _within(0, _MOST)
_GB = Rule(lambda x: 0 <= x <= 1e6, 'from 0 to a million')
_NOT_NEGATIVE = Rule(lambda x: 0 <= x < math.inf, 'at least 0')
_ABOVE_ZERO = Rule(lambda x: 0 < x < math.inf, 'above 0')
_SHARE = Rule(lambda x: 0 <= x < 1, 'from 0 to below 1')
_RATE = Rule(lambda x: 0 < x < 1, 'between 0 and 1')
_SEEDS = Rule(
  lambda x: (
    0 < len(x) == len({n for n in x if type(n) is int and n >> 32 == 0})
  ),
  'one or more different whole numbers from 0 up, such as 0,1,2',
)
_LEVELS = Rule(
  lambda x: len(x) > 0 and list(x) == [n for n in (1, 2, 3) if n in x],
  'ascending numbers from 1 to 3, such as 2,3',
)
_NAMES = Rule(lambda x: set(map(type, x)) <= {str}, 'names, such as screw,01')
_CROP = Rule(lambda x: x == 0 or 32 <= x <= _SIDE, f'0, or from 32 to {_SIDE}')
_BACKBONES = _one_of(
  *('auto', 'resnet18', 'resnet50', 'resnet101', 'wide_resnet50_2'),
  'efficientnet_lite0',
)
_RESIZE = _within(32, _SIDE, ' pixels')
_SOURCES = _one_of('folder', 'cifar10', 'tfds', 'demo')
_OPTIMIZERS = _one_of('adam', 'adamw')
_DTYPES = _one_of('auto', 'float32', 'bfloat16', 'float16')
_SCHEDULES = _one_of('constant', 'cosine')
_SCORES = _one_of('patch', 'map')
_MASK_RULES = _one_of('reference', 'half')
_BORDERS = _one_of('zeros', 'reflect')
_ADAPTORS = _one_of('linear', 'mlp', 'identity')
_LOSSES = _one_of('truncated_l1', 'cross_entropy')


FIELDS: dict[str, Field] = {
  'name': Field('', 'Names the work directory.'),
  'protocol': Field('reference', 'The protocol that the settings start from.'),
  'seeds': Field((0,), 'A head is trained for each.', _SEEDS),
  'precision': Field('float32', "The heads' products.", _one_of(*PRECISIONS)),
  # The images.
  'data.source': Field('folder', 'What root holds, or TFDS.', _SOURCES),
  'data.root': Field('', 'The folder of images; the demo generates its own.'),
  'data.dataset': Field('', 'The name of a data set that can be downloaded.'),
  'data.tfds_dir': Field('', "TFDS's directory; empty: its own choice."),
  'data.categories': Field((), 'The categories; empty: all found.', _NAMES),
  'data.normal': Field('', 'Folders of good images, where names do not tell.'),
  'data.defects': Field('', 'Folders of defective images, one per kind.'),
  'data.masks': Field('', 'Folders of masks; these three take commas.'),
  'data.roi': Field(
    '', 'A region of interest, a picture or polygons; {category} is its name.'
  ),
  'data.strict': Field(False, 'Whether an unreadable image ends the run.'),
  'data.resize': Field(329, 'The shorter side of an image.', _RESIZE),
  'data.crop': Field(288, 'The side of the centre used; 0: all.', _CROP),
  'data.bits': Field(16, 'The bits of 16-bit gray images.', _within(8, 16)),
  'data.mask_rule': Field(
    'reference', 'Half: pixels of resized masks from .5 up.', _MASK_RULES
  ),
  'data.demo_seed': Field(0, 'The seed of generated images.', _COUNT),
  'data.held_out': Field(
    0.0,
    'The share of the good images that is kept for thresholds where there is '
    'no validation/good; 0: none.',
    _SHARE,
  ),
  'data.held_out_least': Field(
    20, 'At least so many are held out, but a quarter at most.', _COUNT
  ),
  'data.workers': Field(0, 'Decoding threads; 0: one per core.', _COUNT),
  # The backbone and its features.
  'backbone.name': Field(
    'wide_resnet50_2',
    'The network; auto: by the weights, or as suits the device.',
    _BACKBONES,
  ),
  'backbone.weights': Field(
    '', "A file or a name on the hub; empty: torchvision's first weights."
  ),
  'backbone.levels': Field((2, 3), 'The levels of the features.', _LEVELS),
  'backbone.padding': Field(
    'reflect', "The borders; zeros as in the network's training.", _BORDERS
  ),
  'backbone.probe': Field(
    True, "Whether BatchNorm statistics are as after the released code's start."
  ),
  'backbone.precision': Field(
    'tensorfloat32',
    "Its convolutions'; CPUs have no TensorFloat-32 and take float32.",
    _one_of(*PRECISIONS),
  ),
  'backbone.batch_size': Field(
    0, 'Images per pass; 0: 8 on CPUs, 32 on accelerators.', _COUNT
  ),
  'bank.dtype': Field(
    'auto',
    'The type of stored features; auto: bfloat16 if that is the precision, '
    'else float32. If both are bfloat16, hidden units are as well.',
    _DTYPES,
  ),
  'bank.device_gb': Field(
    0.0, 'Memory for features on each device; 0: what is left.', _GB
  ),
  'bank.host_gb': Field(
    0.0, 'The same on the host; 0: a quarter. The rest goes to disk.', _GB
  ),
  'bank.cache': Field('', 'A folder of features that runs share; empty: none.'),
  'bank.cache_gb': Field(50.0, 'The size of that folder.', _ABOVE_ZERO),
  # How the work is done.
  'engine.devices': Field(0, 'Devices of this machine; 0: all.', _COUNT),
  'engine.lanes': Field(0, 'Heads side by side; 0: as suits.', _COUNT),
  'engine.checkpoint_seconds': Field(
    60.0, 'Seconds between saves of the heads under way.', _NOT_NEGATIVE
  ),
  'engine.tensorboard': Field(True, 'Whether to write scalars.'),
  # The head.
  'patch.size': Field(3, 'The side that is averaged.', _within(1, 255)),
  'patch.pretrain_dim': Field(
    1536, 'Dimensions of each level; 0: its own channels.', _COUNT
  ),
  'patch.target_dim': Field(
    1536, "Dimensions of the head's input; 0: those of all levels.", _COUNT
  ),
  'head.adaptor': Field('linear', 'The adaptor.', _ADAPTORS),
  'head.adaptor_bias': Field(True, 'Whether the adaptor has a bias.'),
  'head.hidden': Field(1024, "The discriminator's hidden width.", _POSITIVE),
  # The distance to good patches, beside the head.
  'nearest.size': Field(
    0, "Good patches to which a patch's distance counts; 0: none.", _BANK
  ),
  'nearest.head': Field(
    0.3,
    'What the head counts beside the distance, each in units of its own spread '
    'over good patches; 0: no head is trained.',
    _NOT_NEGATIVE,
  ),
  # The training of the head.
  'train.epochs': Field(160, 'Epochs of each head.', _POSITIVE),
  'train.min_steps': Field(0, 'Small categories train longer.', _COUNT),
  'train.minutes': Field(
    0.0,
    'How long all heads may train, in minutes of this machine; the schedule is '
    'shortened to fit. 0: as long as it takes.',
    _NOT_NEGATIVE,
  ),
  'train.folds': Field(
    False,
    "Whether each seed's head leaves out another part of the good images, "
    'which set thresholds, where there is no validation/good.',
  ),
  'train.batch_size': Field(8, 'Images per step.', _POSITIVE),
  'train.patches': Field(0, 'Patches drawn of an image; 0: all.', _COUNT),
  'train.schedule': Field(
    'constant', 'The learning rates; cosine falls to zero.', _SCHEDULES
  ),
  'train.warmup': Field(0.0, 'The share of steps with rising rates.', _SHARE),
  'train.loss': Field('truncated_l1', 'The loss.', _LOSSES),
  'train.margin': Field(0.5, "The loss's margin, in logits.", _NOT_NEGATIVE),
  'train.sigma': Field(
    0.015, "The noise's deviation; fits torchvision's weights.", _ABOVE_ZERO
  ),
  'train.noise': Field(
    'absolute',
    'The unit of sigma; relative: the spread of the features of a category, '
    'which fits any weights.',
    _one_of('absolute', 'relative'),
  ),
  'train.adaptor.optimizer': Field('adamw', 'Its optimizer.', _OPTIMIZERS),
  'train.adaptor.learning_rate': Field(1e-4, 'Its rate.', _ABOVE_ZERO),
  'train.adaptor.weight_decay': Field(1e-2, 'Its decay.', _NOT_NEGATIVE),
  'train.discriminator.optimizer': Field('adam', 'Its optimizer.', _OPTIMIZERS),
  'train.discriminator.learning_rate': Field(2e-4, 'Its rate.', _ABOVE_ZERO),
  'train.discriminator.weight_decay': Field(1e-5, 'Its decay.', _NOT_NEGATIVE),
  # What comes of it.
  'evaluation.every': Field(4, 'Epochs between scorings.', _POSITIVE),
  'evaluation.score': Field(
    'patch', "An image's score is the highest of patches or map.", _SCORES
  ),
  'evaluation.baseline': Field(
    0,
    'Good patches of nearest neighbours without training, to compare with, '
    'unless nearest.size names them; 0: no comparison.',
    _BANK,
  ),
  'evaluation.smoothing': Field(4.0, "Maps' sigma, in pixels.", _NOT_NEGATIVE),
  'evaluation.pictures': Field(16, 'Images on a sheet; 0: no sheet.', _COUNT),
  'evaluation.maps': Field(False, 'Whether to save anomaly maps as TIFF.'),
  'evaluation.report': Field(True, 'Whether to leave report.html.'),
  'detector.save': Field(True, 'Whether to leave a detector per category.'),
  'detector.false_alarm_rate': Field(0.01, 'What thresholds aim at.', _RATE),
}


def resolved(values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns settings, by path, with the type that `bank.dtype=auto` means."""
  halves = values['precision'] == 'bfloat16'
  auto = {'auto': 'bfloat16' if halves else 'float32'}
  stored = values['bank.dtype']
  return {**values, 'bank.dtype': auto.get(stored, stored)}
