"""Shipped fakes for tests of our own and of others: sick sources, virtual time."""
