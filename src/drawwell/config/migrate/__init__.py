"""Reading the configuration of other programs."""
