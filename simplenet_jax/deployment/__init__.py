"""Detectors made of trained heads, and shown many files."""
