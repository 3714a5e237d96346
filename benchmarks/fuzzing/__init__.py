"""Hostile input for the commands, and a judge of what they make of it."""
