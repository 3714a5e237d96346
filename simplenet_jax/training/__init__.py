"""Training: from pixels to trained heads."""
