"""Access to a local broker's draw socket, for the loads."""

import contextlib
import socket
from collections.abc import Iterator

from drawwell.wire.frames import Hello
from drawwell.wire.limits import HEADER_BYTES, PROTOCOL_VERSION
from rig.processes import START_WITHIN_S


@contextlib.contextmanager
def greeted(path: str) -> Iterator[socket.socket]:
    """Connect and exchange greetings; raises OSError."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(START_WITHIN_S)
        link.connect(path)
        exchange(link, Hello((PROTOCOL_VERSION,)).encode())
        yield link


def exchange(link: socket.socket, request: bytes) -> bytes:
    """Send a frame; return the frame that answers it."""
    link.sendall(request)
    header = link.recv(HEADER_BYTES, socket.MSG_WAITALL)
    return header + link.recv(int.from_bytes(header[1:], "big"), socket.MSG_WAITALL)
