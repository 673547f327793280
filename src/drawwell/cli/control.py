"""How verbs reach a running broker: over its Unix sockets, in the directory that the configuration names."""

import argparse
import asyncio
import os
from typing import Any

from drawwell.errors import LinkUnavailable


def run_dir(args: argparse.Namespace) -> str:
    """The directory of the running broker's sockets."""
    from drawwell.config.load import load

    return load(args.config).broker.run_dir


def call(args: argparse.Namespace, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask the running broker a control verb.

    Raises:
        LinkUnavailable: no broker answers.
        DrawwellError: whatever the broker refused it with.
    """
    from drawwell.links.unix import UnixLink

    async def ask() -> dict[str, Any]:
        link = UnixLink(os.path.join(run_dir(args), "control.sock"))
        try:
            return await link.call(verb, arguments)
        finally:
            await link.aclose()

    return asyncio.run(ask())


def source_command(
    args: argparse.Namespace, source: str | None, verb: str, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    """Ask a running source a verb; None when nobody runs it, so that the caller may open the device itself.

    `source` is a name or a device path; None means the only OneRNG that runs.
    """
    try:
        return call(args, "source.command", {"source": source, "verb": verb, "args": arguments})
    except LinkUnavailable:
        return None
