"""The simulated OneRNG: a device of its own, on a pseudo-terminal or on USB."""
