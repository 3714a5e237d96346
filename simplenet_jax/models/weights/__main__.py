"""Tells what a file of backbone weights is, and converts it.

  python -m simplenet_jax.models.weights --weights=FILE_OR_NAME \
    [--output=FILE.safetensors] [--list]

Says which network and whose training it is, how widely its features spread and
which sigma that calls for; a damaged file's problems are all named. --output
writes every tensor, its type and bits unchanged, as safetensors with the names
of torchvision.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from absl import flags

from simplenet_jax import cli
from simplenet_jax.console import console
from simplenet_jax.files import refuse_existing, written_aside
from simplenet_jax.models.weights import files, inspection, kinds, variants

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
  if output and output.suffix != '.safetensors':
    raise ValueError(f'--output is {output}; give a name with .safetensors')
  if output:
    refuse_existing(output, _OVERWRITE.value)
  source = _WEIGHTS.value or ''
  path = files.locate(source, '--weights')
  tensors, sha256 = files.read(path)
  console.print(path)
  if _LIST.value:
    for name, value in tensors.items():
      console.print(f'  {name} {list(value.shape)} {value.dtype}')
  state = inspection.check(tensors, str(path))
  architecture = kinds.recognise(tensors)[0]
  variant = variants.identify(source, architecture, sha256, tensors)
  console.print(inspection.describe(tensors, state, variant, sha256))
  if output:
    write(tensors, output)


def write(tensors: Mapping[str, np.ndarray], output: Path) -> None:
  """Writes tensors as safetensors.

  Args:
    tensors: Of any types, by name.
    output: The file; its folder is made where missing.
  """
  # Views of other layouts would be written wrongly; ascontiguousarray would
  # give single numbers an axis.
  ordered = {k: np.asarray(v, order='C') for k, v in tensors.items()}
  content = safetensors.numpy.save(ordered, {'format': 'pt'})
  with written_aside(output) as aside:
    aside.write_bytes(content)
  console.print(f'Wrote {len(tensors)} tensors to {output}')


if __name__ == '__main__':
  cli.run(main)
