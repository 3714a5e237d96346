"""The protocols as functions, for config files of one's own."""

import functools

from simplenet_jax.config import from_protocol

reference = functools.partial(from_protocol, 'reference')
paper = functools.partial(from_protocol, 'paper')
fast = functools.partial(from_protocol, 'fast')
combined = functools.partial(from_protocol, 'combined')
