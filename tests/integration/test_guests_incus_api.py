"""Unusual answers from Incus's socket."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.incus import Incus
from drawwell.guests.model import Attachment, Guest, GuestKind

WEB1 = Guest(GuestKind.INCUS, "web1", Attachment.SOCKET)
MACHINE = {"type": "virtual-machine", "config": {}, "devices": {}}


@contextmanager
def answering(path: Path, reply: bytes) -> Iterator[None]:
    """Run a server that gives every request this reply."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def http(status: int, document: object) -> bytes:
    """Return an answer in the daemon's form."""
    body = json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("reply", "raised", "message"),
    [
        (b"", GuestUnavailable, "does not answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", GuestUnavailable, "is not Incus"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<htm>", GuestUnavailable, "is not Incus"),
        (http(200, ["a", "list"]), GuestUnavailable, "is not Incus"),
        (http(200, {"metadata": {"config": None}}), GuestUnavailable, "does not describe web1"),
        (http(200, {"metadata": MACHINE}), UsageError, "is a virtual machine"),
        (http(403, {"type": "error", "error": "no\x1b[31m"}), PermissionRefused, r"access denied: no \[31m"),
        (
            http(404, {"type": "error", "error": "Instance not found"}),
            GuestUnavailable,
            "the instance does not exist",
        ),
        (http(412, {"type": "error", "error": "ETag"}), GuestUnavailable, "changed the instance"),
        (http(500, {}), GuestUnavailable, "status 500"),
    ],
)
def test_each_answer_that_is_none_has_an_error_with_a_hint(
    folder: Path, reply: bytes, raised: type[DrawwellError], message: str
) -> None:
    """No answer is trusted, or printed unchanged."""
    with answering(folder / "s", reply), pytest.raises(raised, match=message) as caught:
        Incus(str(folder / "s")).apply(WEB1)
    assert caught.value.hint


@pytest.mark.parametrize("id_map", ["nonsense", '[{"Isuid":true}]', "[1]", "7"])
def test_a_map_of_users_that_cannot_be_read_is_refused(folder: Path, id_map: str) -> None:
    """An unreadable ID map grants access to no user."""
    instance = {"config": {"volatile.idmap.next": id_map}, "devices": {}}
    with (
        answering(folder / "s", http(200, {"metadata": instance})),
        pytest.raises(GuestUnavailable, match="cannot read the host IDs") as caught,
    ):
        Incus(str(folder / "s")).owner(WEB1)
    assert caught.value.hint
