"""What is run and read inside a guest."""
