"""The protocols as functions, for config files, and which one a run follows."""

import contextlib
import functools

from simplenet_jax import config as configs
from simplenet_jax.config import Config, flatten, from_protocol

reference = functools.partial(from_protocol, 'reference')
paper = functools.partial(from_protocol, 'paper')
fast = functools.partial(from_protocol, 'fast')
combined = functools.partial(from_protocol, 'combined')


def describe_protocol(config: Config, weights: str = '') -> str:
  """Returns whose protocol a run follows, as 'reference, but data.crop'.

  What a config of the package sets is no change: it is named instead, as in
  'combined (folder)'. `weights` says what the backbone's weights are, if they
  are known not to be the protocol's. Of a protocol of one's own it is the name.
  """
  if (name := config.protocol) not in configs.PROTOCOLS:
    return name
  mine, plain = flatten(config), flatten(from_protocol(name))
  preset = plain
  # A name can come from a file: nothing but the package's own files is run.
  if config.name in configs.names():
    path = configs.config_folder() / f'{config.name}.py'
    with contextlib.suppress(ValueError):  # It may have no such choice.
      preset = plain | flatten(configs.load_config(f'{path}:{name}'))
  fixed = [one for one in plain if one.startswith(configs.PROTOCOL_FIELDS)]
  changed = [one for one in fixed if preset[one] not in (mine[one], 'auto')]
  changed += [f'backbone.weights ({weights})'] if weights else []
  if any(preset[one] != plain[one] for one in fixed):
    name += f' ({config.name})'
  return ', but '.join(filter(None, [name, ', '.join(changed)]))
