"""Common parts of the benchmarks: brokers, peers, loads, figures."""
