"""Migrates the settings of other programs."""
