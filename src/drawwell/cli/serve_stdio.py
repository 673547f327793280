"""``drawwell serve-stdio``: what sshd runs for a consumer; it carries a session to the broker and back."""

import argparse
import os
import socket
import threading
from contextlib import suppress
from typing import Any, Final

from drawwell.cli.output import Output

_PIECE_BYTES: Final = 65_536


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "serve-stdio", parents=[common], help="be what sshd runs for a consumer (a forced command)",
        allow_abbrev=False,
        epilog="'drawwell consumer invite NAME --ssh-key FILE' prints the line of authorized_keys with this "
        "command in it. What the SSH client asks for instead is not looked at.",
    )  # fmt: skip
    parser.add_argument(
        "--consumer", metavar="NAME", required=True, help="the consumer whose key sshd let in"
    )
    parser.add_argument(
        "--key", metavar="FINGERPRINT", default="", help="that key, as ssh-keygen -l shows it: SHA256:…"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, _out: Output) -> int:
    from drawwell.config.load import load

    path = load(args.config).ssh.path
    with _connected(path) as broker:
        broker.sendall(f"{args.consumer} {args.key}".rstrip().encode() + b"\n")
        threading.Thread(target=_forward, args=(broker,), daemon=True).start()
        with suppress(ConnectionError):
            while data := broker.recv(_PIECE_BYTES):
                _write(data)
    os._exit(0)  # the other thread may wait for a peer that has nothing more to say


def _connected(path: str) -> socket.socket:
    from drawwell.cli.client import NoBroker

    broker = socket.socket(socket.AF_UNIX)
    try:
        broker.connect(path)
    except OSError as error:
        broker.close()
        raise NoBroker(
            f"no broker serves SSH on {path}: {(error.strerror or str(error)).lower()}",
            hint="Have the broker's operator set [ssh] user, and see that the broker runs.",
        ) from None
    return broker


def _forward(broker: socket.socket) -> None:
    """Carry what the peer says to the broker; its end is the broker's to answer."""
    with suppress(OSError):
        while data := os.read(0, _PIECE_BYTES):
            broker.sendall(data)
        broker.shutdown(socket.SHUT_WR)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
