"""Both ears at the real kernel: what it says is heard, and what others say in its name is not."""

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
    """Ears that are open for the length of a block; `copied` counts what they told."""

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
    """Have the kernel tell of a device, with a variable of ours that it puts a prefix before."""
    DEVICE.write_text(f"change {uuid.uuid4()} {variable}")


def write_log(line: bytes) -> None:
    """Write to the kernel's log as a program may."""
    with Path("/dev/kmsg").open("wb", buffering=0) as log:
        log.write(line)


@pytest.mark.root
@needs_root
@pytest.mark.skipif(not DEVICE.exists(), reason="this kernel has no fuse device to speak for")
def test_the_kernels_uevents_arrive_and_synthetic_ones_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uevent that root provokes comes from the kernel with its prefix: it is heard, and it is no copy."""
    mark = uuid.uuid4().hex[:12].upper()

    async def run() -> None:
        async with Listening() as listening:
            provoke("NEWVMGENID=1")
            monkeypatch.setattr(generation, "UEVENT", f"SYNTH_ARG_{mark}=1".encode())
            provoke(f"{mark}=1")
            await until(lambda: listening.copied, "the second of the two was heard")
            assert listening.copied == 1

    asyncio.run(run())


@pytest.mark.root
@needs_root
def test_a_program_that_speaks_to_the_kernels_group_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that root sends to the group arrives, with its own port, and is passed over."""
    seen: list[int] = []
    judged = generation.tells_of_copy

    def judge(message: bytes, sender: int) -> bool:
        seen.append(sender)
        return judged(message, sender)

    monkeypatch.setattr(generation, "tells_of_copy", judge)

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
    """What root writes to the kernel's log, even in the kernel's name, is of another facility, and passed over."""
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
def test_ears_that_somebody_else_opened_hear_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A netlink socket and the kernel's log that were handed over are listened to, and nothing is opened."""
    mark = uuid.uuid4().hex[:12].upper()
    monkeypatch.setattr(generation, "UEVENT", f"SYNTH_ARG_{mark}=1".encode())
    uevents = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)
    uevents.bind((0, 1))
    log = os.open("/dev/kmsg", os.O_RDONLY)  # blocking, as the service manager hands it over
    monkeypatch.setattr(generation, "KERNEL_LOG", "/nowhere/kmsg")
    read: list[bytes] = []
    monkeypatch.setattr(generation, "logs_copy", lambda record: bool(read.append(record)))

    async def run() -> None:
        async with Listening(uevents.detach(), log) as listening:
            provoke(f"{mark}=1")
            await until(lambda: listening.copied, "the event was heard")
            write_log(b"<5>" + mark.encode() + b"\n")
            await until(lambda: any(mark.encode() in record for record in read), "the record was read")

    asyncio.run(run())


def test_without_ears_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing may be opened it waits all the same, and says that it is deaf."""
    monkeypatch.setattr(generation, "_open_uevents", lambda _opened: None)
    monkeypatch.setattr(generation, "KERNEL_LOG", "/nowhere/kmsg")

    async def run() -> None:
        async with Listening() as listening:
            assert listening.generations.deaf

    asyncio.run(run())


def test_messages_that_were_lost_count_as_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """When more was said than the buffer holds, it may have been said there."""
    monkeypatch.setattr(generation, "_RECEIVE_BUFFER_BYTES", 1)
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    class Lossy:
        """A socket that says once that something was lost (netlink(7))."""

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
            await until(lambda: listening.copied, "it was told")

    asyncio.run(run())
    writer.close()
