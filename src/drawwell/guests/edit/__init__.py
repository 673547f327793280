"""Reversible edits of guests' configuration files."""
