"""Ways to a noise source. Each keeps the promises of drawwell.ports.NoiseSource."""
