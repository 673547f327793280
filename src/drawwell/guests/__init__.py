"""Support for virtual machines and containers."""
