"""SimpleNet in JAX: anomaly detection and localisation on images."""

__version__ = '0.1.0'
