"""Parsing a guest's arbitrary output, and the findings."""

import contextlib
import os
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import GuestUnavailable, RemoteProtocolError
from drawwell.guests.inside import probes
from drawwell.guests.inside.scripts import LOOK, READ, Look, parse_look
from drawwell.guests.model import GuestCommandResult, GuestVerdict
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.session import ServerSession

HEALTHY = b"""kernel=6.1.0-56-amd64
pool_bits=256
entropy_bits=256
available=virtio_rng.0
current=virtio_rng.0
quality=1000
virtio_rng=virtio1
driver=loaded
hwrng=yes
holders=
generation=vmgenid
sticks=
end=yes
"""


class Guest:
    """A guest with a fixed answer."""

    def __init__(self, output: bytes = b"", status: int = 0) -> None:
        self.outcome = GuestCommandResult(status, output)
        self.orders: list[tuple[list[str], bytes]] = []

    def run(
        self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = DEADLINE_S
    ) -> GuestCommandResult:
        self.orders.append((argv, stdin))
        return self.outcome


class Host:
    """The host, which really runs the scripts."""

    def __init__(self, shell: tuple[str, ...]) -> None:
        self.shell = shell

    def run(
        self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = DEADLINE_S
    ) -> GuestCommandResult:
        done = subprocess.run(
            [*self.shell, *argv[1:]], input=stdin, capture_output=True, check=False, timeout=timeout_s
        )
        return GuestCommandResult(done.returncode, done.stdout, done.stderr.decode())


def verdicts(seen: Look) -> dict[str, GuestVerdict]:
    return {each.what: each.verdict for each in probes.findings(seen)}


def test_a_healthy_guest_is_read() -> None:
    """All findings hold for a guest with everything."""
    assert set(verdicts(parse_look(HEALTHY)).values()) == {GuestVerdict.HOLDS}


@pytest.mark.parametrize("shell", [("sh",), ("bash",), ("busybox", "sh")], ids=lambda shell: shell[0])
def test_every_shell_runs_the_look(shell: tuple[str, ...]) -> None:
    """With every shell the script reports all facts and prints no error."""
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not installed")
    done = subprocess.run([*shell, "-c", LOOK], capture_output=True, check=True)
    assert done.stderr == b""
    assert parse_look(done.stdout).kernel


@pytest.mark.parametrize("shell", [("sh",), ("busybox", "sh")], ids=lambda shell: shell[0])
def test_a_device_that_never_answers_ends_the_read(shell: tuple[str, ...], tmp_path: Any) -> None:
    """A read without an end is stopped in time, and returns the bytes so far."""
    if not shutil.which(shell[0]):
        pytest.skip(f"{shell[0]} is not installed")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    try:
        os.write(held, bytes(64))
        outcome = Host(shell).run(["sh", "-c", READ, "sh", "2", "1", str(pipe)])
    finally:
        os.close(held)
    assert (outcome.status, len(outcome.output)) == (0, 64)


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"virtio_rng": (), "driver": "module"}, "virtio-rng has a driver"),
        ({"virtio_rng": (), "driver": "none"}, "virtio-rng has a driver"),
        ({"virtio_rng": ()}, "virtio-rng has a driver"),
        ({"current": "tpm-rng-0"}, "the kernel reads virtio-rng"),
        ({"quality": 0}, "virtio-rng feeds the kernel"),
        ({"hwrng": False}, "/dev/hwrng exists"),
        ({"entropy_bits": 30}, "the guest's generator is seeded"),
        ({"entropy_bits": 30, "pool_bits": 4096}, "the guest's generator is seeded"),
    ],
)
def test_each_fault_fails_one_finding(change: dict[str, Any], failing: str) -> None:
    """Each fault fails one finding and no other."""
    seen = verdicts(replace(parse_look(HEALTHY), **change))
    assert [what for what, verdict in seen.items() if verdict is GuestVerdict.FAILS] == [failing]


@pytest.mark.parametrize(
    "output",
    [
        b"",
        HEALTHY[:-8],
        HEALTHY + b"kernel=twice\n",
        HEALTHY + b"unknown=fact\n",
        HEALTHY.replace(b"quality=1000", b"quality=-1"),
        HEALTHY.replace(b"quality=1000", b"quality=1e9"),
        HEALTHY.replace(b"driver=loaded", b"driver=yes"),
        HEALTHY.replace(b"hwrng=yes", b"hwrng=perhaps"),
        HEALTHY.replace(b"6.1.0", b"\x1b[2J"),
        HEALTHY.replace(b"6.1.0", b"6" * 300),
        HEALTHY + b"\n" * 20_000,
    ],
)
def test_nonsense_is_refused(output: bytes) -> None:
    """Partial reports, duplicate or unknown facts and bad numbers are refused."""
    with pytest.raises(RemoteProtocolError):
        parse_look(output)


@given(st.binary(max_size=400) | st.lists(st.sampled_from(HEALTHY.splitlines()), max_size=20).map(b"\n".join))
def test_any_output_of_a_guest_parses_or_is_refused(output: bytes) -> None:
    """Garbage raises only the named error; parsed text has no escapes."""
    try:
        seen = parse_look(output)
    except RemoteProtocolError:
        return
    assert repr(seen).isprintable()


def test_more_than_was_read_is_refused() -> None:
    """A guest that returns too many bytes, or whose shell fails, is refused."""
    with pytest.raises(RemoteProtocolError):
        probes.read_hwrng(Guest(bytes(65)), 1, 1.0)
    with pytest.raises(GuestUnavailable):
        probes.read_hwrng(Guest(b"", 127), 1, 1.0)


def test_fips_judges_a_whole_block() -> None:
    """Zeros fail; the verdict for half a block is unknown."""
    assert probes.fips(bytes(probes.FIPS_REQUESTS * 64)).verdict is GuestVerdict.FAILS
    assert probes.fips(bytes(2503)).verdict is GuestVerdict.UNKNOWN


def conversation(n_bytes: int) -> bytes:
    """Return a broker's answer to the draw by ``verify``."""
    session = ServerSession()
    guest = Guest()
    guest.outcome = GuestCommandResult(0, b"")
    probes.draw(guest, "/s", DrawClass.FULL, names_bytes=8, within_s=1.0)  # short: the time is the fact
    session.receive_data(guest.orders[0][1])
    session.next_event()
    answer = session.welcome("well", "box1")
    request = session.next_event()
    assert request is not None
    return answer + session.grant(1, Grant(bytes(n_bytes), 1, DrawClass.FULL))


def test_a_draw_from_inside_is_one_of_the_protocol() -> None:
    """A broker accepts the hello and the draw, and the grant is counted."""
    answer = conversation(64)
    guest = Guest(answer)
    # short: the time is the fact
    assert probes.draw(guest, "/s", DrawClass.FULL, names_bytes=8, within_s=1.0) == 64
    assert guest.orders[0][0][5] == str(len(answer))


@given(st.binary(max_size=300), st.integers(0, 200))
def test_whatever_answers_the_draw_is_read_or_refused(noise: bytes, kept: int) -> None:
    """A hostile answer gives no bytes, or raises one of the two errors."""
    answer = conversation(64)[:kept] + noise
    with contextlib.suppress(RemoteProtocolError, GuestUnavailable):
        # short: the time is the fact
        assert probes.draw(Guest(answer), "/s", DrawClass.FULL, names_bytes=8, within_s=1.0) in {0, 64}


def test_a_guest_without_a_client_program_has_a_hint() -> None:
    """If no program can open a socket, the hint names what to install."""
    with pytest.raises(GuestUnavailable, match="no program in the guest"):
        # short: the time is the fact
        probes.draw(Guest(b"", 9), "/s", DrawClass.FULL, names_bytes=8, within_s=1.0)
