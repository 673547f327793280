"""Doors: listeners and connections around the calls of a broker."""
