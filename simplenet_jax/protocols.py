"""The settings of a run, by protocol, and their check.

Configs start from one of `PROTOCOLS` and override a few fields. Nothing
here imports jax.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from simplenet_jax import rules

# A ConfigDict. Its fields are known at run time only, and `check` checks them.
Config = Any


def reference() -> Config:
  """Returns the settings of the released code, those of published reruns."""
  return ConfigDict(
    {
      'name': '',  # Names the work directory; the config file's own name.
      'protocol': 'reference',
      'seeds': (0,),
      'precision': 'float32',  # Of the heads' products; 'tensorfloat32' or
      # 'bfloat16' are faster on accelerators.
      'data': {
        'source': 'folder',  # Or 'cifar10': its binary version; 'tfds': what
        # TFDS has prepared; 'demo': generated where root is missing.
        'root': '',  # The folder of images, but for 'tfds'.
        'dataset': '',  # Its name, where it can be downloaded.
        'tfds_dir': '',  # TFDS's directory; empty: its own choice.
        'categories': (),  # Empty: all that are found.
        # Names of folders, separated by commas, where names say nothing: of
        'normal': '',  # good images,
        'defects': '',  # defective ones, a kind each,
        'masks': '',  # and masks.
        'strict': False,  # Whether an image that cannot be read ends the run.
        'resize': 329,  # The shorter side, in pixels.
        'crop': 288,  # The centre that is used, in pixels; 0: everything.
        'bits': 16,  # Of 16-bit gray images; 12 for a 12-bit camera's.
        'mask_rule': 'reference',  # Or 'half': a mask's pixels from .5 up.
        'demo_seed': 0,
        'held_out': 0.0,  # Share of the good images kept for thresholds, where
        # there is no validation/good; 0: none.
        'held_out_least': 20,  # At least so many, but a quarter at most.
        'workers': 0,  # Decoding threads of each device; 0: one per core.
      },
      'backbone': {
        'name': 'wide_resnet50_2',
        'weights': '',  # A file, a name on the hub; empty: torchvision's V1.
        'levels': (2, 3),
        'padding': 'reflect',  # Or 'zeros', what the network was trained with.
        'probe': True,  # Statistics as the released code's start leaves them.
        'batch_size': 8,  # Images per pass; changes features by rounding alone.
      },
      'bank': {
        'dtype': 'float32',  # Of the features; 'bfloat16' halves their size.
        'device_gb': 0.0,  # What they may take of each device; 0: what is left.
        'host_gb': 0.0,  # Of this machine's memory if they do not fit there; 0:
        # a quarter. Beyond, they go to a file in the work directory.
      },
      'engine': {
        'devices': 0,  # How many of this machine's to use; 0: all.
        'lanes': 0,  # Heads side by side on a device; 0: as it suits it.
        'shrink': False,  # Whether to go on with less at a time where a device
        # is out of memory.
        'checkpoint_seconds': 60.0,  # Between saves of the heads under way.
        'tensorboard': True,  # Whether to write scalars for it.
      },
      'patch': {'size': 3, 'pretrain_dim': 1536, 'target_dim': 1536},
      'head': {'adaptor': 'linear', 'adaptor_bias': True, 'hidden': 1024},
      'train': {
        'epochs': 160,
        'min_steps': 0,  # Categories with fewer train whole epochs more.
        'batch_size': 8,  # Images per step.
        'patches': 0,  # Drawn of each image of a step; 0: all of them.
        'schedule': 'constant',  # Of the learning rates; 'cosine': to zero.
        'warmup': 0.0,  # Share of the steps in which they rise.
        'average': 0.0,  # Of weights over the last one in so many + 1 of the
        # steps so far, about; 0: the last weights count.
        'loss': 'truncated_l1',
        'margin': 0.5,
        'sigma': 0.015,  # Of the noise; fits torchvision's V1 weights.
        'noise': 'absolute',  # Or 'relative': sigma times the spread of a
        # category's features, which fits any weights.
        'adaptor': {
          'optimizer': 'adamw',
          'learning_rate': 1e-4,
          'weight_decay': 1e-2,
        },
        'discriminator': {
          'optimizer': 'adam',
          'learning_rate': 2e-4,
          'weight_decay': 1e-5,
        },
      },
      'evaluation': {
        'every': 4,  # Epochs between scorings for the best test epoch.
        'course': False,  # Whether to tell the metrics of every scoring; all
        # scores are kept for it, in memory and in checkpoints.
        'smoothing': 4.0,  # Of anomaly maps: a Gaussian's sigma in pixels.
        'pictures': 16,  # Test images on a category's sheet; 0: no sheet.
        'maps': False,  # Whether to save the anomaly maps as TIFF.
        'report': True,  # Whether to leave report.html.
      },
      'detector': {
        'save': True,  # Whether to leave one per category in the end.
        'false_alarm_rate': 0.01,  # That its thresholds aim at, where good
        # images are held out.
      },
    }
  )


def paper() -> Config:
  """Returns the settings of the paper's text (section 4.3)."""
  config = reference()
  config.protocol = 'paper'
  config.data.resize, config.data.crop = 256, 224
  config.data.mask_rule = 'half'
  config.backbone.padding, config.backbone.probe = 'zeros', False
  config.head.adaptor_bias = False
  config.train.batch_size = 4
  config.train.adaptor.optimizer = 'adam'
  config.train.adaptor.weight_decay = 1e-5
  return config


def fast() -> Config:
  """Returns the settings of a recipe whose last epoch can be taken.

  Images and features are those of `reference`, a head costs less than a tenth
  of its operations; docs/last_epoch.md has the comparison.
  """
  config = reference()
  config.protocol = 'fast'
  train = config.train
  train.epochs, train.batch_size, train.patches = 120, 16, 64
  train.loss = 'cross_entropy'
  train.noise, train.sigma = 'relative', 0.25
  train.schedule, train.warmup = 'cosine', 0.05
  train.adaptor.learning_rate = 3e-4
  train.discriminator.learning_rate = 2e-3
  return config


PROTOCOLS: dict[str, Callable[[], Config]] = {
  'reference': reference,
  'paper': paper,
  'fast': fast,
}


def protocol(name: str | None) -> Config:
  """Returns the protocol called `name`; without a name, `reference`.

  Raises:
    ValueError: For an unknown name.
  """
  if (name or 'reference') not in PROTOCOLS:
    raise ValueError(
      f'protocol is {name!r}; choose one of {", ".join(PROTOCOLS)}'
    )
  return PROTOCOLS[name or 'reference']()


# Fields that change how a run goes on, not what comes of it: a run can be
# resumed with others.
FREE = (
  'data.strict',
  'data.workers',
  'bank.device_gb',
  'bank.host_gb',
  'engine.',
  'evaluation.pictures',
  'evaluation.maps',
  'evaluation.report',
  'detector.save',
)

# How the fields begin that a protocol fixes; the others say where and how a run
# goes on.
_BINDING = (
  'precision',
  'bank.dtype',
  'data.resize',
  'data.crop',
  'data.bits',
  'data.mask_rule',
  'data.held_out',
  'backbone.name',
  'backbone.levels',
  'backbone.padding',
  'backbone.probe',
  'patch.',
  'head.',
  'train.',
  'evaluation.every',
  'evaluation.smoothing',
)


def followed(config: Config, weights: str = '') -> str:
  """Returns the protocol that a run follows, with what is changed in it.

  Args:
    config: A run's settings.
    weights: What the backbone's weights are where they are known not to be
      those of the protocol; empty: they are, or may be.

  Returns:
    The protocol's name alone if it is followed to the letter (or is none of
    `PROTOCOLS`), else as in 'reference, but data.crop, train.epochs'.
  """
  if config.protocol not in PROTOCOLS:
    return config.protocol
  changed = [
    field
    for field, value in leaves(PROTOCOLS[config.protocol]())
    if field.startswith(_BINDING) and _get(config, field) != value
  ]
  if weights:
    changed.append(f'backbone.weights ({weights})')
  if not changed:
    return config.protocol
  return f'{config.protocol}, but {", ".join(changed)}'


def leaves(config: Config, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields every field's path, such as 'train.epochs', and its value."""
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      yield from leaves(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value


def _get(config: Config, field: str) -> Any:
  for part in field.split('.'):
    config = config[part]
  return config


def check(config: Config) -> None:
  """Checks every field and its value.

  Args:
    config: A run's settings.

  Raises:
    ValueError: Names all fields that no setting has, that are missing or out of
      range, what was found and what is expected.
  """
  if 'variants' in config:
    raise ValueError(
      f'{config.name} is the config of a sweep: python -m simplenet_jax.sweep'
    )
  check_fields(config, reference())
  problems = []
  for field, (accepts, expected) in rules.RULES.items():
    value = _get(config, field)
    if not accepts(value):
      problems.append(f'--config.{field} is {value!r}, expected {expected}')
  if config.backbone.probe and config.backbone.padding != 'reflect':
    problems.append(
      '--config.backbone.probe needs --config.backbone.padding=reflect, found '
      f'{config.backbone.padding!r}; turn it off (--noconfig.backbone.probe)'
    )
  if problems:
    raise ValueError('; '.join(problems))


def check_fields(config: Config, model: Config) -> None:
  """Checks that settings have the fields of a model, with values of its types.

  Args:
    config: The settings of a run or of a sweep.
    model: Settings that have every field.

  Raises:
    ValueError: Names all fields that differ, and which were meant.
  """
  known = [field for field, _ in leaves(model)]
  if problems := list(rules.misfits(config, model, known)):
    raise ValueError('; '.join(problems))
