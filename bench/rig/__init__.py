"""What the benchmarks share: a broker with its consumers, peers, load, and figures with their ratio."""
