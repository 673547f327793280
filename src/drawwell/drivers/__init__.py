"""Drivers for noise sources; each one is a drawwell.ports.NoiseSource."""
