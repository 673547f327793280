"""The guest lab: real QEMU guests for tests and benchmarks; see README.md."""
