"""``drawwell fleet``: manage several brokers with the same consumers."""

import argparse
from typing import Any


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    from drawwell.cli.fleet import init, invite, join, remove, status

    parser = nouns.add_parser(
        "fleet", help="manage several brokers that share consumers and quotas", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    for verb in (init, invite, join, remove, status):
        verb.add_parser(verbs, common)
