"""Names for shell completion: links, sources, consumers and guests."""

import argparse
import os
from typing import Final

from drawwell.errors import DrawwellError

KINDS: Final = ("link", "source", "consumer", "guest")


def names(kind: str, args: argparse.Namespace) -> list[str]:
    """Return the names of one kind that this user may see."""
    try:
        return sorted(_names(kind, args))
    except (DrawwellError, OSError):
        return []


def _names(kind: str, args: argparse.Namespace) -> list[str]:
    from drawwell.cli.client import NoBroker, call, call_pages
    from drawwell.config.load import load

    match kind:
        case "link":
            from drawwell.links.identity import load_all
            from drawwell.roles.upstream import links_dir

            return [os.path.basename(each.directory) for each in load_all(links_dir(load(args.config)))]
        case "source":
            try:
                return [each["identity"]["name"] for each in call(args, "status", {})["sources"]]
            except NoBroker:
                return [each.name for each in load(args.config).sources]
        case "consumer":
            pages = call_pages(args, "consumer.list", {})
            return [each["name"] for page in pages for each in page["consumers"]]
    return [each["name"] for each in call(args, "guest.list", {})["guests"]]
