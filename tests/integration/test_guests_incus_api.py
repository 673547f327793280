"""What else may answer at Incus's socket than a healthy Incus that lets us in."""

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
    """Somebody who gives everybody this reply."""
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
    """An answer as the daemon gives it."""
    body = json.dumps(document).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("reply", "raised", "words"),
    [
        (b"", GuestUnavailable, "does not answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", GuestUnavailable, "is not Incus"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<htm>", GuestUnavailable, "is not Incus"),
        (http(200, ["a", "list"]), GuestUnavailable, "is not Incus"),
        (http(200, {"metadata": {"config": None}}), GuestUnavailable, "says nothing of web1"),
        (http(200, {"metadata": MACHINE}), UsageError, "is a virtual machine"),
        (http(403, {"type": "error", "error": "no\x1b[31m"}), PermissionRefused, r"it refuses: no \[31m"),
        (
            http(404, {"type": "error", "error": "Instance not found"}),
            GuestUnavailable,
            "knows no such instance",
        ),
        (http(412, {"type": "error", "error": "ETag"}), GuestUnavailable, "somebody else changed"),
        (http(500, {}), GuestUnavailable, "status 500"),
    ],
)
def test_each_answer_that_is_none_has_an_error_with_a_hint(
    folder: Path, reply: bytes, raised: type[DrawwellError], words: str
) -> None:
    """Nothing that comes back is believed, or printed, as it is."""
    with answering(folder / "s", reply), pytest.raises(raised, match=words) as caught:
        Incus(str(folder / "s")).apply(WEB1)
    assert caught.value.hint


@pytest.mark.parametrize("id_map", ["nonsense", '[{"Isuid":true}]', "[1]", "7"])
def test_a_map_of_users_that_cannot_be_read_is_told(folder: Path, id_map: str) -> None:
    """A socket is given to nobody by guess."""
    instance = {"config": {"volatile.idmap.next": id_map}, "devices": {}}
    with (
        answering(folder / "s", http(200, {"metadata": instance})),
        pytest.raises(GuestUnavailable, match="cannot be read") as caught,
    ):
        Incus(str(folder / "s")).owner(WEB1)
    assert caught.value.hint
