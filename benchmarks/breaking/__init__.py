"""A short run, and the ways in which it is broken."""
