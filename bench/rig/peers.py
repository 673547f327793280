"""Peers: other servers with the same certificates, checks and core."""

import contextlib
import getpass
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


def bare_asyncio(site: Site, loop: str = "asyncio") -> contextlib.AbstractContextManager[Server]:
    """Run a server of 32 constant bytes for every 32, without drawwell."""
    port = free_port()
    script = os.path.join(os.path.dirname(__file__), "bare_asyncio.py")
    argv = [sys.executable, script, str(port), site.certificate, site.key, site.ca, loop]
    return _serving(argv, port)


def least(site: Site) -> contextlib.AbstractContextManager[Server]:
    """Run a server that does for a draw only what no broker can leave out."""
    port = free_port()
    argv = [sys.executable, "-m", "rig.least", str(port), site.certificate, site.key, site.ca]
    return _serving(argv, port, cwd=Path(__file__).parents[1])


@contextlib.contextmanager
def least_unix(folder: Path) -> Iterator[Server]:
    """Run the same for EGD requests, on `folder`/least."""
    argv = [sys.executable, "-m", "rig.least", f"{folder}/least"]
    with running(argv, cwd=Path(__file__).parents[1]) as process:
        wait_for_path(process, folder / "least")
        yield Server(process.pid, 0)


@contextlib.contextmanager
def bare_unix(folder: Path, loop: str) -> Iterator[Server]:
    """Run a server of 32 constant bytes per request on `folder`/bare."""
    script = os.path.join(os.path.dirname(__file__), "bare_unix.py")
    with running([sys.executable, script, f"{folder}/bare", loop]) as process:
        wait_for_path(process, folder / "bare")
        yield Server(process.pid, 0)


def esdm_server() -> str | None:
    """Find ESDM's server: $ESDM_SERVER, or else in the path."""
    return os.environ.get("ESDM_SERVER") or shutil.which("esdm-server")


@contextlib.contextmanager
def esdm(folder: Path) -> Iterator[Server]:
    """Run ESDM's EGD server on `folder`/esdm; its RPC sockets are compiled in."""
    argv = [esdm_server() or "", "-f", "-M", "-u", getpass.getuser(), "-e", f"{folder}/esdm"]
    with running(argv) as process:
        wait_for_path(process, folder / "esdm")
        yield Server(process.pid, 0)


def socat(site: Site, what: str) -> contextlib.AbstractContextManager[Server]:
    """Run socat with TLS: a process per connection, with `what` as its output."""
    port = free_port()
    listen = f"OPENSSL-LISTEN:{port},bind=127.0.0.1,fork,nodelay,reuseaddr,backlog=1024,verify=1"
    files = f"cert={site.certificate},key={site.key},cafile={site.ca}"
    return _serving(["socat", "-U", "-b", "65536", f"{listen},{files}", f"OPEN:{what}"], port)


@contextlib.contextmanager
def s_server(site: Site, what: str) -> Iterator[Server]:
    """Run openssl's server, which sends its input to one client at a time.

    A client must send a byte first: s_server may wait for one in SSL_read forever.
    """
    port = free_port()
    argv = ["openssl", "s_server", "-quiet", "-accept", str(port), "-tls1_3", "-num_tickets", "0"]
    argv += ["-cert", site.certificate, "-key", site.key, "-CAfile", site.ca, "-Verify", "1"]
    with open(what, "rb") as source, _serving([*argv, "-verify_return_error"], port, stdin=source) as server:
        yield server


@contextlib.contextmanager
def stunnel(site: Site, what: str) -> Iterator[Server]:
    """Run stunnel: a thread and a program (cat) per connection."""
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
