"""drawwell draws true randomness from hardware its owner trusts, and hands it on once and with proof."""

__version__ = "0.1.0.dev0"
__build_date__ = 1_735_689_600
"""2025-01-01, in seconds since 1970, raised at releases: no clock that was set shows a time before it."""
