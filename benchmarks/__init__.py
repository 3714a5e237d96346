"""Benchmarks: `python -m benchmarks.<name>`, figures in benchmarks/results."""

import os

# What is measured was not compiled by an earlier command.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', '')
