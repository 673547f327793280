"""A broker's link to its signer."""

import socket
from pathlib import Path

import pytest

from drawwell.errors import StateUnavailable
from drawwell.links.signer import RemoteKeys


def test_looking_whether_the_signer_is_there_waits_for_nothing(folder: Path) -> None:
    """A silent signer keeps its connection; a closed one is opened again."""
    path = str(folder / "signer.sock")
    with socket.create_server(path, family=socket.AF_UNIX) as listener:
        listener.setblocking(False)
        keys = RemoteKeys(path)
        for _ in range(50):
            keys.require()
        peer, _ = listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()
        peer.close()
        keys.require()
        listener.accept()[0].close()
    with pytest.raises(StateUnavailable, match="is away"):
        keys.require()
    with pytest.raises(StateUnavailable, match="is away"):
        keys.sign([b"text"])
