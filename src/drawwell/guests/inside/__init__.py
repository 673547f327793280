"""Programs and probes that run inside a guest."""
