"""Prints every setting with its meaning and the values it takes.

  simplenet config --config=mvtec:paper

Without --config the values are the defaults, those of the protocol reference.
"""

import textwrap

from simplenet_jax import cli
from simplenet_jax.config import flatten, from_protocol
from simplenet_jax.fields import FIELDS, TYPES

_CONFIG = cli.define_config('Whose values are shown.')


def _as_flag(value) -> str:
  if isinstance(value, (tuple, list)):
    return ','.join(map(str, value))
  return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
  """Prints the settings, a paragraph each."""
  config = _CONFIG.value or from_protocol()
  for field, value in flatten(config).items():
    known = FIELDS[field]
    kind, _ = TYPES[type(known.default)]
    allowed = known.rule.allowed if known.rule else kind
    default = '' if value == known.default else f' (default {known.default!r})'
    text = f'{known.meaning} Takes {allowed}.'
    print(f'--config.{field}={_as_flag(value)}{default}')
    print(textwrap.indent(textwrap.fill(text, 76), '    '))


if __name__ == '__main__':
  cli.run(main)
