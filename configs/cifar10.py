"""SimpleNet on CIFAR-10, one class against the others (the paper's Table 5).

  simplenet download --dataset=cifar10
  simplenet train --config=cifar10

Ten heads, one per normal class: its 5,000 training images are trained on, all
10,000 test images are tested, and the other nine classes are the anomalies. The
small images are resized as the paper's protocol resizes all of them (256, crop
224). The paper reports a mean I-AUROC of 86.5 and does not say how the epoch
was selected. There are no masks, so what is measured in pixels is undefined.

An image's features take 3 MB, a class's 45 GB (half with
--config.bank.dtype=bfloat16), which a smaller device streams. A class has one
seed, so each device trains one class after the other. Every class passes the
backbone with its own 15,000 images.

What TFDS has prepared is read with --config.data.source=tfds.
"""

from simplenet_jax.config import from_protocol


def get_config(protocol=None):
  """Returns the settings; `protocol` is `paper` (default) or `reference`."""
  config = from_protocol(protocol or 'paper')
  config.name = 'cifar10'
  config.data.source = config.data.dataset = 'cifar10'
  config.data.root = 'data/cifar10'
  return config
