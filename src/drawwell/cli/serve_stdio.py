"""``drawwell serve-stdio``: relay a consumer's SSH session to the broker."""

import argparse
import os
import socket
import threading
from contextlib import suppress
from typing import Any, Final

from drawwell.cli.output import Output

_PIECE_BYTES: Final = 65_536


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "serve-stdio", parents=[common], help="serve one consumer over stdin/stdout (SSH forced command)",
        allow_abbrev=False,
        epilog="'drawwell consumer invite NAME --ssh-key FILE' prints the authorized_keys line that runs this "
        "command. Commands from the SSH client are ignored.",
    )  # fmt: skip
    parser.add_argument(
        "--consumer", metavar="NAME", required=True, help="the consumer whose key sshd accepted"
    )
    parser.add_argument(
        "--key", metavar="FINGERPRINT", default="", help="the key's fingerprint from ssh-keygen -l: SHA256:…"
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
    os._exit(0)  # the other thread might be blocked on a silent peer


def _connected(path: str) -> socket.socket:
    from drawwell.cli.client import NoBroker

    broker = socket.socket(socket.AF_UNIX)
    try:
        broker.connect(path)
    except OSError as error:
        broker.close()
        raise NoBroker(
            f"cannot connect to the broker on {path}: {(error.strerror or str(error)).lower()}",
            hint="On the broker's machine, set [ssh] user and check that the broker is running.",
        ) from None
    return broker


def _forward(broker: socket.socket) -> None:
    """Copy standard input to the broker and forward EOF; the broker closes."""
    with suppress(OSError):
        while data := os.read(0, _PIECE_BYTES):
            broker.sendall(data)
        broker.shutdown(socket.SHUT_WR)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
