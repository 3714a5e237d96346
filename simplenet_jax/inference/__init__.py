"""From trained heads to a detector: folding, the compiled network, the file."""
