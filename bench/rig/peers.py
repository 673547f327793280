"""The peers: other servers with the same certificates, the same demands of the client, and the same core."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rig.processes import Server, free_port, running, wait_for_path, wait_for_port
from rig.site import Site


def has_socat() -> bool:
    return shutil.which("socat") is not None


def has_openssl() -> bool:
    return shutil.which("openssl") is not None


def has_stunnel() -> bool:
    return shutil.which("stunnel") is not None


@contextlib.contextmanager
def _serving(argv: Sequence[str], port: int, **options: Any) -> Iterator[Server]:
    with running(argv, **options) as process:
        wait_for_port(process, port)
        yield Server(process.pid, port)


def bare_asyncio(site: Site) -> contextlib.AbstractContextManager[Server]:
    """32 constant bytes for every 32, with nothing but the standard library."""
    port = free_port()
    script = os.path.join(os.path.dirname(__file__), "bare_asyncio.py")
    return _serving([sys.executable, script, str(port), site.certificate, site.key, site.ca], port)


@contextlib.contextmanager
def bare_unix(folder: Path, loop: str) -> Iterator[Server]:
    """32 constant bytes for each request on a Unix socket, `folder`/bare, on that loop."""
    script = os.path.join(os.path.dirname(__file__), "bare_unix.py")
    with running([sys.executable, script, f"{folder}/bare", loop]) as process:
        wait_for_path(process, folder / "bare")
        yield Server(process.pid, 0)


def socat(site: Site, what: str) -> contextlib.AbstractContextManager[Server]:
    """The how-to's server with TLS: a process for each connection, which gets `what` (an address of socat's)."""
    port = free_port()
    listen = f"OPENSSL-LISTEN:{port},bind=127.0.0.1,fork,nodelay,reuseaddr,backlog=1024,verify=1"
    files = f"cert={site.certificate},key={site.key},cafile={site.ca}"
    return _serving(["socat", "-U", "-b", "65536", f"{listen},{files}", f"OPEN:{what}"], port)


@contextlib.contextmanager
def s_server(site: Site, what: str) -> Iterator[Server]:
    """openssl's own server, which sends its standard input to one client at a time.

    A client must send a byte first: s_server may wait for one in SSL_read for ever.
    """
    port = free_port()
    argv = ["openssl", "s_server", "-quiet", "-accept", str(port), "-tls1_3", "-num_tickets", "0"]
    argv += ["-cert", site.certificate, "-key", site.key, "-CAfile", site.ca, "-Verify", "1"]
    with open(what, "rb") as source, _serving([*argv, "-verify_return_error"], port, stdin=source) as server:
        yield server


@contextlib.contextmanager
def stunnel(site: Site, what: str) -> Iterator[Server]:
    """A TLS wrapper with a thread for each connection, and one program (here cat) behind each."""
    port = free_port()
    path = site.folder / "stunnel.conf"
    path.write_text(f"""\
foreground = yes
pid =
debug = 3
[bench]
accept = 127.0.0.1:{port}
cert = {site.certificate}
key = {site.key}
CAfile = {site.ca}
verifyChain = yes
sslVersionMin = TLSv1.3
exec = /bin/cat
execArgs = cat {what}
""")
    with _serving(["stunnel", str(path)], port, stderr=subprocess.DEVNULL) as server:
        yield server
