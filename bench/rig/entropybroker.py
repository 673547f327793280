"""Entropy Broker 2.9 as a peer: daemon, feeder, EGD client, protocol.

The program's network_protocol.txt describes the protocol. The configuration is the package's,
except for the address, users' limits (none), the web server (off) and Nagle's algorithm (off,
as in drawwell). By default output is encrypted with 3DES and has a MAC; the load ignores both,
so they cost it nothing.
"""

import contextlib
import hashlib
import re
import shutil
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rig.load import WAIT_S, Exchange
from rig.processes import CLIENT_CORE, Server, free_port, running, wait_for_path, wait_for_port

PACKAGED: Final = Path("/etc/entropybroker/entropy_broker.conf")
USER: Final = "bench"
PASSWORD: Final = "bench-only-0123456789-ab"
"""24 characters, because 3DES accepts no other length."""
MAC_BYTES: Final = 16
GET, GOT = b"0001", b"0002"
NEWS: Final = (b"0009", b"0010")
"""Notices: data is available again; there is none. They can also arrive unsolicited."""


def installed() -> bool:
    return shutil.which("entropy_broker") is not None and PACKAGED.exists()


def get(n_bytes: int) -> Exchange:
    """Return a get of `n_bytes` and its complete answer."""
    bits = struct.pack(">I", 8 * n_bytes)
    return Exchange(GET + bits, 8 + MAC_BYTES + n_bytes, GOT + bits)


class Link:
    """A plain socket with the interface of a TLS socket."""

    def __init__(self, plain: socket.socket) -> None:
        plain.settimeout(WAIT_S)
        self.plain = plain
        self.fileno, self.send, self.close = plain.fileno, plain.send, plain.close
        self.sendall, self.setblocking, self.settimeout = plain.sendall, plain.setblocking, plain.settimeout

    def recv(self, n_bytes: int) -> bytes:
        """Receive the available bytes, without notices before an answer."""
        try:
            data = self.plain.recv(n_bytes)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None
        while data.startswith(NEWS):
            data = data[8:] or self.recv(n_bytes)
        return data

    def receive(self, n_bytes: int) -> bytes:
        """Receive exactly this many bytes."""
        data = b""
        while len(data) < n_bytes:
            more = self.plain.recv(n_bytes - len(data))
            if not more:
                raise ConnectionError("the peer closed the connection")
            data += more
        return data


def connect(port: int) -> Link:
    """Connect and log in as a client."""
    plain = socket.create_connection(("127.0.0.1", port), WAIT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link = Link(plain)
    link.receive(4)  # version
    *_algorithms, challenge = (link.receive(*struct.unpack(">I", link.receive(4))) for _ in range(4))
    proof = hashlib.sha512(challenge + b" " + PASSWORD.encode()).digest()
    link.sendall(_text(USER) + proof + b"\0" + _text("bench"))
    link.receive(4)  # the most bits of a get
    return link


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[Server]:
    """Run the daemon on the servers' core, and a urandom feeder on the other."""
    port = free_port()
    settings = {
        "listen_adapter": "::ffff:127.0.0.1",
        "listen_port": str(port),
        "listen_queue_size": "128",
        "disable_nagle": "1",
        "default_max_get_bps": "2000000000",
        "webserver_port": "-1",
        "users": f"{folder}/eb-users",
    }
    text = PACKAGED.read_text()
    for name, value in settings.items():
        text = re.sub(rf"^{name} *=.*$", f"{name} = {value}", text, flags=re.MULTILINE)
    (folder / "eb.conf").write_text(text)
    (folder / "eb-users").write_text(f"{USER}|{PASSWORD}|2000000000|yes\n")
    auth = folder / "eb-auth"
    auth.write_text(f"{USER}\n{PASSWORD}\n")
    auth.chmod(0o600)
    daemon = ["entropy_broker", "-n", "-c", f"{folder}/eb.conf"]
    feeder = ["eb_server_stream", "-n", "-I", f"127.0.0.1:{port}", "-d", "/dev/urandom", "-X", str(auth)]
    with running(daemon, cwd=folder) as process:
        wait_for_port(process, port)
        with running(feeder, core=CLIENT_CORE):
            yield Server(process.pid, port)


@contextlib.contextmanager
def egd(folder: Path, port: int) -> Iterator[tuple[str, int]]:
    """Run the EGD client on the servers' core; yield socket path and process."""
    path = folder / "eb-egd"
    path.unlink(missing_ok=True)
    argv = ["eb_client_egd", "-n", "-I", f"127.0.0.1:{port}", "-d", str(path), "-X", str(folder / "eb-auth")]
    with running(argv) as process:
        wait_for_path(process, path)
        yield str(path), process.pid


def _text(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()
