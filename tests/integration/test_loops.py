"""The broker and the link as processes, on asyncio's loop and on uvloop."""

import json
import socket
from pathlib import Path

import pytest

from drawwell.service.loops import ENVIRONMENT
from drawwell.testing.waiting import DEADLINE_S, wait_until
from support.daemon import Daemon, command
from support.listening import listens

BROKER = """
[broker]
state_dir = "{0}/state"
run_dir = "{0}/run"
[[source]]
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 6.0
[tls]
listen = "127.0.0.1:{1}"
names = ["127.0.0.1"]
[enrol]
listen = "127.0.0.1:{2}"
[[egd]]
listen = "{0}/egd"
consumer = "local"
[http]
listen = "{0}/http"
"""
LINK = """
[broker]
state_dir = "{0}/other"
run_dir = "{0}/link"
[[upstream]]
url = "tls://127.0.0.1:{1}"
identity = "{0}/identity"
"""


def ports(count: int) -> list[int]:
    """Return ports that no program listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def asked(path: Path, request: bytes, answer_bytes: int) -> bytes:
    """Send a request to a Unix socket; return the answer's first bytes."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(DEADLINE_S)
        link.connect(str(path))
        link.sendall(request)
        return link.recv(answer_bytes, socket.MSG_WAITALL)


def drawn(config: Path, *options: str) -> str:
    """Draw 16 bytes by the command line."""
    done = command("draw", "16", "--hex", "--wait", f"{DEADLINE_S:g}s", *options, config=config)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def uses_uvloop(daemon: Daemon) -> bool:
    return "/uvloop/" in Path(f"/proc/{daemon.pid}/maps").read_text()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_door_and_the_link_serve_on_either_loop(folder: Path, loop: str) -> None:
    """Unix, TLS, EGD, HTTP and the link's socket serve; SIGTERM ends both."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    tls, enrol = ports(2)
    config, other = folder / "broker.toml", folder / "link.toml"
    config.write_text(BROKER.format(folder, tls, enrol))
    other.write_text(LINK.format(folder, tls))
    env = {ENVIRONMENT: loop}
    with Daemon("broker", config=config, log=folder / "log", env=env) as broker:
        wait_until(lambda: "healthy" in (folder / "log").read_text(), "the source is healthy")
        invited = command("consumer", "invite", "web01", "--json", config=config)
        token = json.loads(invited.stdout)["token"]
        joined = command("join", token, "--dir", f"{folder}/identity", config=other)
        assert joined.returncode == 0, joined.stderr
        with Daemon("link", "run", config=other, log=folder / "link.log", env=env) as link:
            wait_until(lambda: listens(folder / "link" / "link.sock"), "the link listens")
            found = {
                drawn(config),
                drawn(other),
                drawn(other, "--via", f"unix://{folder}/link/link.sock"),
                asked(folder / "egd", b"\x02\x10", 16).hex(),
            }
            assert len(found) == 4
            assert all(len(each) == 32 for each in found)
            page = asked(folder / "http", b"GET /v1/draw?bytes=16 HTTP/1.0\r\nHost: x\r\n\r\n", 15)
            assert page == b"HTTP/1.1 200 OK"
            assert (uses_uvloop(broker), uses_uvloop(link)) == (loop == "uvloop",) * 2
            assert link.stop() == 0
        assert broker.stop() == 0
