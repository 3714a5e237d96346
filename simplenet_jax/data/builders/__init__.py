"""TFDS builders of the data sets; importing them registers them.

They need no TensorFlow: images go in as they are encoded, and ArrayRecord files
come out, to be read with `as_data_source`.
"""

from simplenet_jax.data.builders.cifar10_one_class import Cifar10OneClass
from simplenet_jax.data.builders.mvtec_ad import MvtecAd

__all__ = ('Cifar10OneClass', 'MvtecAd')
