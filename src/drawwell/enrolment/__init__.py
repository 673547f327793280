"""Consumers: who they are, their keys and certificates, their terms."""
