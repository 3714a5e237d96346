"""Evaluation: from scores to figures that can be trusted."""
