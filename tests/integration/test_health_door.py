"""The probes: /healthz and /readyz, on a socket file or on loopback, and nothing else."""

import asyncio
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from drawwell.doors.door import Limits
from drawwell.doors.health import MAX_HEAD_BYTES, HealthDoor
from drawwell.errors import ConfigError
from drawwell.testing.serving import serving

PATIENCE_S = 20.0


def ready() -> tuple[bool, str]:
    return True, ""


def starved() -> tuple[bool, str]:
    return False, "0 of 1 sources healthy"


async def asked(door: HealthDoor, request: bytes) -> bytes:
    host, port = door.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def answer_to(request: bytes, *, readiness=ready, limits: Limits = Limits()) -> bytes:  # noqa: B008
    async def run() -> bytes:
        door = HealthDoor("127.0.0.1:0", readiness, limits=limits)
        async with serving(door), asyncio.timeout(PATIENCE_S):
            return await asked(door, request)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("request_line", "readiness", "status", "word"),
    [
        ("GET /healthz HTTP/1.1", starved, 200, "running"),
        ("GET /readyz HTTP/1.1", ready, 200, "ready"),
        ("GET /readyz?verbose=1 HTTP/1.0", ready, 200, "ready"),
        ("GET /readyz HTTP/1.1", starved, 503, "0 of 1 sources healthy"),
        ("GET /status HTTP/1.1", ready, 404, "/healthz"),
        ("POST /healthz HTTP/1.1", ready, 405, "GET and HEAD"),
        ("GET /healthz", ready, 400, "HTTP"),
        ("GET /healthz HTTP/2", ready, 400, "HTTP"),
    ],
)
def test_probe_is_answered(request_line: str, readiness, status: int, word: str) -> None:
    """Status and words are those of the request and of the broker's state."""
    head, _, body = answer_to(f"{request_line}\r\nHost: x\r\n\r\n".encode(), readiness=readiness).partition(
        b"\r\n\r\n"
    )

    assert head.split(b" ")[1] == str(status).encode()
    document = json.loads(body)
    assert document["ok"] is (status == 200)
    assert word in document["status"]
    assert f"Content-Length: {len(body)}".encode() in head


def test_head_has_no_body() -> None:
    """HEAD says how long the body would be, and sends none."""
    head, _, body = answer_to(b"HEAD /readyz HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")

    assert b"200 OK" in head
    assert body == b""


def test_endless_head_is_cut_off() -> None:
    """More than 4 KiB of headers are answered with 431."""
    assert b" 431 " in answer_to(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES)


@pytest.mark.parametrize("request_", [b"", b"GET /hea", b"\x16\x03\x01"])
def test_request_that_does_not_come_to_its_end_is_dropped(request_: bytes) -> None:
    """At the deadline the connection is closed without an answer."""
    assert answer_to(request_, limits=Limits(handshake_deadline_s=0.05)) == b""


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_socket_file_serves_socat_and_goes_with_the_door(tmp_path: Path) -> None:
    """The probe that a container runs works on the socket file."""
    path = tmp_path / "health"
    command = ["socat", "-", f"UNIX-CONNECT:{path}"]
    request = b"GET /readyz HTTP/1.1\r\n\r\n"

    async def run() -> bytes:
        async with serving(HealthDoor(str(path), starved)), asyncio.timeout(PATIENCE_S):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            done = await asyncio.to_thread(
                subprocess.run, command, input=request, capture_output=True, check=True
            )
            return done.stdout

    assert asyncio.run(run()).startswith(b"HTTP/1.1 503 ")
    assert not path.exists()


@pytest.mark.parametrize(
    "where",
    [
        "0.0.0.0:80",
        "*:80",
        ":80",
        "192.0.2.1:80",
        "[::]:80",
        "example.org:80",
        "127.0.0.1",
        "127.0.0.1:x",
        "[::1]:70000",
    ],
)
def test_address_beyond_loopback_is_a_configuration_error(where: str) -> None:
    """A probe that asks nobody for a certificate stays at home."""
    with pytest.raises(ConfigError) as caught:
        HealthDoor(where, ready)
    assert caught.value.hint


@pytest.mark.parametrize("where", ["127.0.0.1:0", "localhost:0"])
def test_loopback_is_listened_on(where: str) -> None:
    """Both ways to write it lead to 127.0.0.1."""

    async def run() -> None:
        door = HealthDoor(where, ready)
        async with serving(door):
            assert door.address.startswith("127.0.0.1:")

    asyncio.run(run())
