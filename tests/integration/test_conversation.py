"""The start-up dialogue with a device on a terminal."""

import asyncio
import os
import pty
import termios
import threading

import pytest

from drawwell.config.devices import DEVICES
from drawwell.drivers.chardev import CharDeviceSource
from drawwell.drivers.tty import Tty
from drawwell.errors import SourceRejected, SourceUnavailable
from drawwell.testing.waiting import DEADLINE_S


def opened(path, scenario, **more):
    """Run a scenario with the open source, and close it at the end."""

    async def run():
        noise = CharDeviceSource("test", str(path), stall_s=DEADLINE_S, **more)
        await noise.open()
        try:
            return await scenario(noise)
        finally:
            await noise.aclose()

    return asyncio.run(run())


@pytest.fixture
def device_on_a_terminal():
    """Create terminals with simulated devices; return the node."""
    ends = []

    def make(answers):
        master, slave = pty.openpty()  # keep both open: without a slave the other end reads an error
        ends.extend((master, slave))
        threading.Thread(target=serve, args=(master, answers), daemon=True).start()
        return os.ttyname(slave)

    yield make
    for end in reversed(ends):
        os.close(end)


def serve(master, answers):
    received = b""
    while True:
        try:
            received += os.read(master, 64)
        except OSError:
            return
        for command, answer in answers.items():
            if received.endswith(command):
                os.write(master, answer)


def test_a_conversation_is_held_before_the_first_sample(device_on_a_terminal):
    """Commands, an expected answer and a skipped heading precede the samples."""
    path = device_on_a_terminal({b"v\n": b"OK1", b"x": b"headnoise"})
    steps = ("send 760a", "expect 4f4b", "skip 1", "send 78", "skip 4", "wait 1ms")

    async def scenario(noise):
        data = b""
        while len(data) < 5:
            data += (await noise.read(16)).data
        return data

    assert opened(path, scenario, start=steps) == b"noise"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (("send 760a", "expect 4e4f"), "answered 2 bytes, but not the 2 expected"),
        (("knock 111",), "terminals do not support 111 baud"),
    ],
)
def test_a_device_that_answers_otherwise_is_not_read(device_on_a_terminal, steps, message):
    """A wrong answer or speed is an error, and the terminal is closed."""
    path = device_on_a_terminal({b"v\n": b"OK"})

    with pytest.raises(SourceUnavailable, match=message):
        opened(path, None, start=steps)
    opened(path, lambda _noise: asyncio.sleep(0))


def test_a_knock_opens_and_closes_the_terminal_at_its_speed(device_on_a_terminal, monkeypatch):
    """A TrueRNGpro's mode sets each speed on a newly opened terminal."""
    path = device_on_a_terminal({})
    knocks = []
    real = Tty.set_speed
    monkeypatch.setattr(Tty, "set_speed", lambda tty, speed: (knocks.append(speed), real(tty, speed)))

    opened(path, lambda _noise: asyncio.sleep(0), start=DEVICES["TrueRNGpro"].start)
    assert knocks == [termios.B110, termios.B300, termios.B110, termios.B300]


def test_only_a_terminal_has_a_conversation(tmp_path):
    """A FIFO cannot be written to, so it has no dialogue."""
    os.mkfifo(tmp_path / "noise")
    with pytest.raises(SourceRejected, match="is not a terminal"):
        opened(tmp_path / "noise", None, start=("send 00",))
