"""Runs side by side that differ in a few settings: the paper's experiments."""
