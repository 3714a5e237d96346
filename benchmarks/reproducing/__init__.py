"""Runs that differ in one thing, and how far apart they end."""
