"""Images and data sets: from files to pixels, and back to them.

Importing it registers the TFDS builders `mvtec_ad` and `cifar10_one_class`.
"""

from simplenet_jax.data import builders as builders
