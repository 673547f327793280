"""Brokers that share consumers, quotas and seeds in PostgreSQL."""
