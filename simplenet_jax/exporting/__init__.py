"""Detectors as files for other programs, compared before they are written."""
