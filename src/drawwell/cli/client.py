"""Requests to this machine's broker through its sockets."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from drawwell.errors import LinkUnavailable

if TYPE_CHECKING:
    from drawwell.cli.output import Output
    from drawwell.config.model import Config


def call(args: argparse.Namespace, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Send a control request to the running broker as its owner.

    Raises:
        NoBroker: no broker runs on this machine.
        PermissionRefused: this user is not the owner, or the broker lacks a permission.
        LinkUnavailable: the broker disconnected before it answered.
        DrawwellError: the broker refused the request.
    """
    return call_pages(args, verb, arguments)[0]


def call_pages(args: argparse.Namespace, verb: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Send a control request to the running broker and fetch all pages.

    Raises the same errors as `call`.
    """
    from drawwell.config.load import load

    return _ask_pages(load(args.config).control.path, verb, arguments)


def link_status(config: "Config") -> dict[str, Any] | None:
    """Return the link's status, or None; same errors as `call`."""
    from drawwell.roles.upstream import listens

    if config.serves or not listens(config.broker.link_socket):
        return None
    return ask(config.broker.link_socket, "status", {})


def ask(path: str, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Send a control request to a broker socket; same errors as `call`."""
    return _ask_pages(path, verb, arguments)[0]


def receipt_keys(config: "Config") -> bytes:
    """Return the running broker's public receipt keys; same errors as `call`."""
    return str(ask(config.unix.path, "receipt-key", {})["public_key"]).encode()


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
            "no broker is running here",
            hint="Start a broker with 'drawwell run', or run 'drawwell doctor'. 'drawwell demo' needs no broker.",
        ) from error
    try:
        pages = [link.call(verb, arguments)]
        while (after := pages[-1].get("next")) is not None:
            pages.append(link.call(verb, {**arguments, "after": after}))
        return pages
    finally:
        link.close()


def read_configuration(args: argparse.Namespace, out: "Output") -> "Config":
    """Load the configuration, because no broker answers; print its files.

    With ``-c``, the user named the file, so nothing is printed.

    Raises:
        ConfigError: the configuration has faults.
    """
    from drawwell.config.load import load

    config = load(args.config)
    if not args.config:
        files = ", ".join(config.files) or "the defaults (no configuration file)"
        out.say(f"no broker is running: using {files}")
    return config


class NoBroker(LinkUnavailable):
    """No broker listens on this machine."""


ANSWER_DEADLINE_S = 60.0
"""Long enough for a firmware dump or the tests of a slow source."""


def source_command(
    args: argparse.Namespace, source: str | None, verb: str, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    """Send a command to a running source.

    `source` is a name or a device path, and None means the only running source. Returns None
    if the source is not running; the caller can then open the device itself.
    """
    try:
        source = running_name(args, source)
    except NoBroker:
        return None
    if source == "":
        return None
    return call(args, "source.command", {"source": source, "verb": verb, "args": arguments})


def running_name(args: argparse.Namespace, source: str | None) -> str | None:
    """Return the name of a running source, given its name or device node.

    Returns "" if no source reads the node, and None if `source` is None.

    Raises the same errors as `call`.
    """
    running = call(args, "status", {})["sources"]
    if not source or not source.startswith("/"):
        return source
    node = os.path.realpath(source)
    paths: dict[str, str] = {
        os.path.realpath(each["identity"]["path"]): each["identity"]["name"] for each in running
    }
    return paths.get(node, "")
