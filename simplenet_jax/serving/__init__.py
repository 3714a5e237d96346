"""Detectors behind HTTP, or behind a folder that is watched."""
