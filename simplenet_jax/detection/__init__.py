"""Detectors: their file, thresholds, inputs, results on disk and exports."""
