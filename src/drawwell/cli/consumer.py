"""Not built yet."""

import argparse
from typing import Any


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Nothing yet."""
