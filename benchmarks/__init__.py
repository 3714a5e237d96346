"""Benchmarks: `python -m benchmarks.<name>`, figures in benchmarks/results."""
