"""The evidence folder of an SP 800-90B submission."""
