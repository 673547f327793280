"""The tests of FIPS 140-2, block by block."""
