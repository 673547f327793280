"""The guest lab: real QEMU guests for tests and benchmarks. See README.md beside this file."""
