"""The supervisor's descriptor store with real descriptors."""

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from drawwell.service.supervisor import FdStore


@pytest.fixture
def kept() -> Iterator[FdStore]:
    store = FdStore()
    yield store
    store.close()


def put(kept: FdStore, name: str, sock: socket.socket) -> None:
    kept.message(f"FDSTORE=1\nFDNAME={name}\n".encode(), [os.dup(sock.fileno())])


def test_a_descriptor_is_kept_until_its_other_end_closes(kept: FdStore) -> None:
    """A connection outlives its owner, and is closed with its peer."""
    ours, theirs = socket.socketpair()
    with theirs:
        put(kept, "guest.vm1", ours)
        ours.close()
        kept.sweep()
        assert len(kept) == 1
        theirs.send(b"still there")
    kept.sweep()
    assert len(kept) == 0


def test_the_same_descriptor_is_kept_once(kept: FdStore) -> None:
    """A duplicate under the same name is closed, as in systemd."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        put(kept, "guest.vm1", ours)
        put(kept, "guest.vm1", ours)
        assert len(kept) == 1


def test_what_is_forgotten_is_closed(kept: FdStore) -> None:
    """FDSTOREREMOVE closes all descriptors with that name, and no others."""
    pairs = [socket.socketpair() for _ in range(3)]
    for name, (ours, _) in zip(("a", "a", "b"), pairs, strict=True):
        put(kept, name, ours)
        ours.close()
    kept.message(b"FDSTOREREMOVE=1\nFDNAME=a\n", [])

    assert len(kept) == 1
    assert [theirs.recv(1) for _, theirs in pairs[:2]] == [b"", b""]
    for _, theirs in pairs:
        theirs.close()


@pytest.mark.parametrize(
    "text", [b"READY=1\n", b"FDSTORE=0\nFDNAME=a\n", b"FDSTORE=1\nFDNAME=a:b\n", b"\xff\xfe"]
)
def test_what_comes_with_another_message_is_closed(kept: FdStore, text: bytes) -> None:
    """A descriptor with an unrelated message is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        kept.message(text, [ours.detach()])
        assert len(kept) == 0
        assert theirs.recv(1) == b""


def test_a_child_is_handed_everything_by_name(kept: FdStore) -> None:
    """Descriptors start at 3 in the order of LISTEN_FDNAMES (sd_listen_fds)."""
    pairs = [socket.socketpair() for _ in range(2)]
    for name, (ours, _) in zip(("guest.a", "guest.b"), pairs, strict=True):
        put(kept, name, ours)
    script = """
import os
from drawwell.service.systemd import Manager
manager = Manager(os.environ)
for name in sorted(manager.names):
    manager.inherited(name)[0].send(name.encode())
"""
    child = os.fork()
    if not child:
        os.execve(sys.executable, [sys.executable, "-c", script], kept.hand_on(os.environ))
    os.waitpid(child, 0)

    assert [theirs.recv(16) for _, theirs in pairs] == [b"guest.a", b"guest.b"]
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_child_without_stored_sockets_gets_none(kept: FdStore) -> None:
    """Without descriptors the environment has no LISTEN variables."""
    assert "LISTEN_FDS" not in kept.hand_on({})
