"""Runs detectors that simplenet-jax has exported, without jax.

What reads images, judges and draws is simplenet_jax's own text: `setup.py`
places it in this package, so that a wheel imports nothing of simplenet_jax.
"""

from simplenet_runtime.detector import Detector, Prediction

__all__ = ['Detector', 'Prediction']
