"""The simulated OneRNG, on a pseudo-terminal or on USB."""
