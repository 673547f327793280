"""Editing configuration files of guests, reversibly."""
