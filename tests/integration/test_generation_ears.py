"""Detecting copies on the real kernel, without spoofed messages."""

import asyncio
import os
import socket
import struct
import uuid
from pathlib import Path
from typing import Self

import pytest

from drawwell.host import generation
from drawwell.host.generation import Generations
from drawwell.testing.waiting import until

DEVICE = Path("/sys/devices/virtual/misc/fuse/uevent")
NETLINK_KOBJECT_UEVENT = 15
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the kernel is made to speak")


class Listening:
    """Open the listeners during the block; `copied` counts reports."""

    def __init__(self, *opened: int) -> None:
        self.copied = 0
        self.generations = Generations(self._count, opened)

    def _count(self) -> None:
        self.copied += 1

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._task = self._group.create_task(self.generations.listen())
        await self.generations.ready.wait()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await self._group.__aexit__(None, None, None)


def provoke(variable: str) -> None:
    """Make the kernel send a prefixed uevent with our variable."""
    DEVICE.write_text(f"change {uuid.uuid4()} {variable}")


def write_log(line: bytes) -> None:
    """Write to the kernel's log like a program."""
    with Path("/dev/kmsg").open("wb", buffering=0) as log:
        log.write(line)


@pytest.mark.root
@needs_root
@pytest.mark.skipif(not DEVICE.exists(), reason="this kernel has no fuse device to speak for")
def test_the_kernels_uevents_arrive_and_synthetic_ones_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uevent triggered by root has the kernel's prefix and does not count."""
    mark = uuid.uuid4().hex[:12].upper()

    async def run() -> None:
        async with Listening() as listening:
            provoke("NEWVMGENID=1")
            monkeypatch.setattr(generation, "UEVENT", f"SYNTH_ARG_{mark}=1".encode())
            provoke(f"{mark}=1")
            await until(lambda: listening.copied, "the second of the two arrived")
            assert listening.copied == 1

    asyncio.run(run())


@pytest.mark.root
@needs_root
def test_a_program_that_speaks_to_the_kernels_group_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uevent sent by root has root's port and is ignored."""
    seen: list[int] = []
    judged = generation.announces_copy

    def judge(message: bytes, sender: int) -> bool:
        seen.append(sender)
        return judged(message, sender)

    monkeypatch.setattr(generation, "announces_copy", judge)

    async def run() -> None:
        async with Listening() as listening:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as forger:
                forger.bind((0, 0))
                port = forger.getsockname()[0]
                forger.sendto(b"change@/devices/x\0ACTION=change\0NEW_VMGENID=1\0", (0, 1))
                await until(lambda: port in seen, "the forged message arrived")
            assert port != 0
            assert listening.copied == 0

    asyncio.run(run())


@pytest.mark.root
@needs_root
def test_a_log_line_that_a_program_wrote_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that root writes to the kernel log are ignored."""
    seen: list[bytes] = []
    judged = generation.logs_copy

    def judge(record: bytes) -> bool:
        seen.append(record)
        return judged(record)

    monkeypatch.setattr(generation, "logs_copy", judge)

    async def run() -> None:
        async with Listening() as listening:
            write_log(b"<5>" + generation.LOG_LINE + b"\n")
            await until(
                lambda: any(generation.LOG_LINE in record for record in seen), "the forged record was read"
            )
            assert listening.copied == 0

    asyncio.run(run())


@pytest.mark.root
@needs_root
@pytest.mark.skipif(not DEVICE.exists(), reason="this kernel has no fuse device to speak for")
def test_inherited_sockets_report_copies_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inherited descriptors are used, and no others are opened."""
    mark = uuid.uuid4().hex[:12].upper()
    monkeypatch.setattr(generation, "UEVENT", f"SYNTH_ARG_{mark}=1".encode())
    uevents = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)
    uevents.bind((0, 1))
    log = os.open("/dev/kmsg", os.O_RDONLY)  # blocking, as passed by the service manager
    monkeypatch.setattr(generation, "KERNEL_LOG", "/nowhere/kmsg")
    read: list[bytes] = []
    monkeypatch.setattr(generation, "logs_copy", lambda record: bool(read.append(record)))

    async def run() -> None:
        async with Listening(uevents.detach(), log) as listening:
            provoke(f"{mark}=1")
            await until(lambda: listening.copied, "the event arrived")
            write_log(b"<5>" + mark.encode() + b"\n")
            await until(lambda: any(mark.encode() in record for record in read), "the record was read")

    asyncio.run(run())


def test_without_ears_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing can be opened, it waits and reports this."""
    monkeypatch.setattr(generation, "_open_uevents", lambda _opened: None)
    monkeypatch.setattr(generation, "KERNEL_LOG", "/nowhere/kmsg")

    async def run() -> None:
        async with Listening() as listening:
            assert listening.generations.deaf

    asyncio.run(run())


def test_messages_that_were_lost_count_as_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """If messages were lost, one of them may have announced a copy."""
    monkeypatch.setattr(generation, "_RECEIVE_BUFFER_BYTES", 1)
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    class Lossy:
        """A socket that reports lost messages once (netlink(7))."""

        def __init__(self) -> None:
            self.said = False

        def fileno(self) -> int:
            return reader.fileno()

        def recvfrom(self, size: int) -> tuple[bytes, tuple[int, int]]:
            if self.said:
                raise BlockingIOError
            self.said = True
            raise OSError(105, "No buffer space available")

        def close(self) -> None:
            reader.close()

    monkeypatch.setattr(generation, "_open_uevents", lambda _opened: Lossy())
    monkeypatch.setattr(generation, "KERNEL_LOG", "/nowhere/kmsg")

    async def run() -> None:
        async with Listening() as listening:
            writer.send(struct.pack("B", 1))
            await until(lambda: listening.copied, "the loss was reported")

    asyncio.run(run())
    writer.close()
