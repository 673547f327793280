"""Virtual machines and containers: what to write for them, how it is applied, and what is seen from inside."""
