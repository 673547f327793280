"""Ways to draw: thin shells round the one broker call."""
