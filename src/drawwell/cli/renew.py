"""``drawwell renew``: renew this machine's certificates; a timer runs it."""

import argparse
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output

if TYPE_CHECKING:
    from drawwell.links.identity import LinkIdentity


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "renew", parents=[common], help="renew this machine's certificates that are due", allow_abbrev=False,
        epilog="A certificate is due after two thirds of its life, and can be renewed until 30 days after it expires.",
    )  # fmt: skip
    parser.add_argument("links", nargs="*", metavar="LINK", help="links by name or directory (default: all)")
    parser.add_argument("--force", action="store_true", help="also renew certificates that are not yet due")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    """Renew each certificate, even if one fails; return the worst exit code."""
    import asyncio

    from drawwell.config.load import load
    from drawwell.errors import DrawwellError
    from drawwell.roles.upstream import links_dir, renew

    results, code = [], 0
    for identity in _identities(args.links, links_dir(load(args.config))):
        try:
            with out.working(f"renewing the certificate for {identity.broker}"):
                renewed = asyncio.run(renew(identity, force=args.force))
        except DrawwellError as error:
            code = max(code, out.error(error))
            continue
        results.append(
            {
                "broker": identity.broker,
                "directory": identity.directory,
                "renewed": renewed,
                "certificate_expires": identity.expires(),
            }
        )
    lines = [f"{result['broker']}: {'renewed' if result['renewed'] else 'not yet due'}" for result in results]
    out.result(results, "\n".join(lines) or ("nothing was renewed" if code else "no broker has been joined"))
    return code


def _identities(names: list[str], links: str) -> "list[LinkIdentity]":
    from drawwell.links.identity import load_all
    from drawwell.roles.upstream import joined

    return [joined(name, links) for name in names] if names else load_all(links)
