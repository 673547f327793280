"""drawwell draws true randomness from hardware its owner trusts, and hands it on once and with proof."""

__version__ = "0.1.0.dev0"
