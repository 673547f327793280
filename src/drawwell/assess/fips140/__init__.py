"""FIPS 140-2 continuous tests, block by block."""
