"""How verbs ask the running broker of this machine, by its sockets."""

import argparse
import os
from typing import Any

from drawwell.errors import LinkUnavailable, PermissionRefused


def call(args: argparse.Namespace, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask the running broker a control verb, as its owner.

    Raises:
        NoBroker: none runs on this machine.
        PermissionRefused: we are not its owner.
        LinkUnavailable: it went away before it answered.
        DrawwellError: whatever the broker refused it with.
    """
    return call_pages(args, verb, arguments)[0]


def call_pages(args: argparse.Namespace, verb: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the running broker a control verb whose answer may have a `next` page, for all of them.

    Raises:
        As `call`.
    """
    from drawwell.config.load import load

    try:
        return _ask_pages(load(args.config).control.path, verb, arguments)
    except PermissionRefused as error:
        raise PermissionRefused(
            "only the broker's owner may ask that", hint="Ask as root or as the broker's own user."
        ) from error


def ask(path: str, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask a control verb on one of the broker's sockets; raises as `call`."""
    return _ask_pages(path, verb, arguments)[0]


def _ask_pages(path: str, verb: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    from drawwell.links.blocking import BlockingLink
    from drawwell.roles.upstream import listens

    link = BlockingLink(path, answer_deadline_s=ANSWER_DEADLINE_S)
    try:
        link.open()
    except LinkUnavailable as error:
        if listens(path):
            raise
        raise NoBroker(
            "no broker runs here",
            hint="Start one with 'drawwell run', try 'drawwell demo', or ask 'drawwell doctor'.",
        ) from error
    try:
        pages = [link.call(verb, arguments)]
        while (after := pages[-1].get("next")) is not None:
            pages.append(link.call(verb, {**arguments, "after": after}))
        return pages
    finally:
        link.close()


class NoBroker(LinkUnavailable):
    """Nobody listens on this machine."""


ANSWER_DEADLINE_S = 60.0
"""A firmware dump and on-demand tests of a slow source take their time."""


def source_command(
    args: argparse.Namespace, source: str | None, verb: str, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    """Ask a running source a verb; None when nobody runs it, so that the caller may open the device itself.

    `source` is a name or a device path; None means the only one that runs.
    """
    try:
        source = running_name(args, source)
    except NoBroker:
        return None
    if source == "":
        return None
    return call(args, "source.command", {"source": source, "verb": verb, "args": arguments})


def running_name(args: argparse.Namespace, source: str | None) -> str | None:
    """Return a running source's name for its name or device node.

    It is "" for a node that no source reads, and None for None.

    Raises:
        As `call`.
    """
    running = call(args, "status", {})["sources"]
    if not source or not source.startswith("/"):
        return source
    node = os.path.realpath(source)
    paths: dict[str, str] = {
        os.path.realpath(each["identity"]["path"]): each["identity"]["name"] for each in running
    }
    return paths.get(node, "")
