"""Runs and detectors under load, and what they take meanwhile."""
