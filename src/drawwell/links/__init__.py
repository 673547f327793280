"""A consumer's side of the doors."""
