"""Makes a detector from a checkpoint of the released code.

  simplenet import-released --config=mvtec --checkpoint=ckpt.pth --output=FILE

The config says what the checkpoint of SimpleNet's PyTorch code was trained
with; its backbone's weights are loaded as for training. The detector gives
scores; simplenet calibrate gives it thresholds. PyTorch is not needed.
"""

from pathlib import Path

from absl import flags

from simplenet_jax import cli
from simplenet_jax.config import check_config
from simplenet_jax.console import console
from simplenet_jax.files import refuse_existing

_CONFIG = cli.define_config('What the checkpoint was trained with.')
_CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'The file, ckpt.pth.')
_OUTPUT = flags.DEFINE_string('output', None, 'The detector to be written.')
_OVERWRITE = cli.define_overwrite()
cli.require('config', 'checkpoint', 'output')


def main() -> None:
  """Imports."""
  config = _CONFIG.value
  check_config(config)
  if not config.data.crop:
    raise ValueError(
      '--config.data.crop is 0; the released code crops, set it to its crop'
    )
  path = Path(_CHECKPOINT.value or '').expanduser()
  output = Path(_OUTPUT.value or '')
  output = cli.folder(str(output.parent), '--output') / output.name
  output = Path(f'{str(output).removesuffix(".safetensors")}.safetensors')
  refuse_existing(output, _OVERWRITE.value)
  from simplenet_jax.detection import assembly
  from simplenet_jax.models.simplenet import FeatureNetwork
  from simplenet_jax.models.weights import files, name_backbone
  from simplenet_jax.training import bank

  config = name_backbone(config)
  dim = FeatureNetwork.of(config).dim
  head = files.load_released(path, dim)
  backbone = bank.load_backbone(config)
  provenance = {'seeds': ['released'], 'checkpoint': str(path)}
  size = (config.data.crop, config.data.crop)
  detector = assembly.assemble(
    config, output.stem, size, backbone, [head], provenance
  )
  detector.save(output)
  console.print(
    f'{output}: scores only; for verdicts, show it good images:\n'
    f'  simplenet calibrate --detector={output} --input=FOLDER'
  )


if __name__ == '__main__':
  cli.run(main)
