"""Consumers: their identities, keys, certificates and terms."""
