"""The number of examples for each property in a test run."""

from hypothesis import settings

USUAL = 100


def examples(full: int) -> int:
    """Return `full`, or a reduced number for `make quick`."""
    return max(1, full * settings().max_examples // USUAL)
