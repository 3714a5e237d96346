"""Tells which network a file of backbone weights is and whose training it has.

  simplenet weights --weights=FILE_OR_NAME \
    [--output=FILE.safetensors] [--list]

--output writes every tensor, its type and bits unchanged, as safetensors with
the names of torchvision.
"""

import collections
from pathlib import Path

from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console
from simplenet_jax.files import atomic_write, refuse_existing, write_arrays
from simplenet_jax.models import resnet, weights
from simplenet_jax.models.weights import files

_WEIGHTS = flags.DEFINE_string(
  'weights', None, 'A file, a name on the Hugging Face hub, or demo.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'A .safetensors file to write.')
_OVERWRITE = cli.define_overwrite()
_LIST = flags.DEFINE_bool('list', False, 'Whether to list all tensors.')
cli.require('weights')


def main() -> None:
  """Inspects, and converts if asked to."""
  output = Path(_OUTPUT.value).expanduser() if _OUTPUT.value else None
  if output:
    if output.suffix != '.safetensors':
      raise ValueError(f'--output is {output}; give a name with .safetensors')
    refuse_existing(output, _OVERWRITE.value)
  source = _WEIGHTS.value or ''
  path = files.locate(source, '--weights')
  tensors, sha256 = files.read(path)
  console.print(path)
  if _LIST.value:
    for name, value in tensors.items():
      console.print(f'  {name} {list(value.shape)} {value.dtype}')
  found = weights.recognise(tensors)
  if not found:
    raise ValueError(
      f'{path} is not one of {", ".join(resnet.ARCHITECTURES)} with the names '
      f'of torchvision; it begins with {", ".join(sorted(tensors)[:3])}'
    )
  starts = {name[:7] for name in tensors}
  reached = [level for level in resnet.LEVELS if f'layer{level}.' in starts]
  levels = resnet.LEVELS[: max(reached, default=1)]
  weights.check(tensors, found[0], levels, str(path))
  types = collections.Counter(str(value.dtype) for value in tensors.values())
  counts = ', '.join(f'{count} {name}' for name, count in types.items())
  size = sum(value.nbytes for value in tensors.values()) / 1e6
  console.print(f'  network  {" or ".join(found)}')
  console.print(f'  levels   {", ".join(map(str, levels))}')
  recipe = weights.identify(source, found[0], sha256, tensors)
  console.print(f'  recipe   {recipe}')
  console.print(f'  sha256   {sha256}')
  console.print(f'  tensors  {len(tensors)} ({counts}), {size:.1f} MB')
  if output:
    with atomic_write(output) as aside:
      write_arrays(aside, tensors, {'format': 'pt'})
    console.print(f'Wrote {len(tensors)} tensors to {output}')


if __name__ == '__main__':
  cli.run(main)
