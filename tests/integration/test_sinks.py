"""FIFO, file and standard output as sinks, with real readers."""

import asyncio
import os
import pty
import stat

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import SinkRefused
from drawwell.sinks.fifo import FifoSink
from drawwell.sinks.file import FileSink
from drawwell.sinks.stdout import StdoutSink
from drawwell.testing.waiting import ends_at_once
from support.station import Site, running


def grant(data: bytes) -> Grant:
    return Grant(data, 1, DrawClass.FULL)


def reader_of(path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def used(make, scenario):
    """Run a scenario with the sink, and close it at the end."""

    async def run():
        sink = make()
        try:
            return await scenario(sink)
        finally:
            await sink.aclose()

    return asyncio.run(run())


async def wants(sink) -> bool:
    """Return whether the sink wants bytes now."""
    return await ends_at_once(sink.wait_wanted())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "sink")


def test_a_missing_fifo_is_made_for_its_owner_alone(path):
    """No other user can read the drawn bytes."""
    used(lambda: FifoSink(path), lambda _sink: asyncio.sleep(0))

    mode = os.stat(path).st_mode
    assert stat.S_ISFIFO(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_fifo_delivers_to_its_reader(path):
    """Delivered bytes are read in order, and counted."""

    async def scenario(sink):
        reader = reader_of(path)
        await sink.wait_wanted()
        report = await sink.deliver(grant(b"drawn"))
        data = os.read(reader, 100)
        os.close(reader)
        return data, report.delivered_bytes

    assert used(lambda: FifoSink(path), scenario) == (b"drawn", 5)


def test_nothing_is_wanted_without_a_reader(path):
    """Without a reader no bytes are drawn, before and after readers."""

    async def scenario(sink):
        before = await wants(sink)
        reader = reader_of(path)
        during = await wants(sink)
        os.close(reader)
        return before, during, await wants(sink)

    assert used(lambda: FifoSink(path), scenario) == (False, True, False)


def test_a_reader_never_sees_the_end(path):
    """An idle reader blocks instead of reading EOF; so does the next."""

    async def scenario(_sink):
        for _ in range(2):
            reader = reader_of(path)
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
            os.close(reader)
        return True

    assert used(lambda: FifoSink(path), scenario)


def test_a_full_fifo_wants_nothing_until_its_reader_reads(path):
    """At most one page or one chunk is in flight."""

    async def scenario(sink):
        reader = reader_of(path)
        await sink.deliver(grant(bytes(4096)))
        full = await wants(sink)
        os.read(reader, 4096)
        emptied = await wants(sink)
        os.close(reader)
        return full, emptied

    assert used(lambda: FifoSink(path), scenario) == (False, True)


def test_a_large_grant_goes_in_as_it_is_read(path):
    """A grant larger than the FIFO waits for its reader and arrives complete."""
    data = os.urandom(50_000)

    async def scenario(sink):
        reader, received = reader_of(path), bytearray()
        asyncio.get_running_loop().add_reader(reader, lambda: received.extend(os.read(reader, 3000)))
        await sink.deliver(grant(data))
        while len(received) < len(data):  # noqa: ASYNC110 - the reader above is the event
            await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(reader)
        os.close(reader)
        return bytes(received)

    assert used(lambda: FifoSink(path), scenario) == data


def test_a_reader_that_goes_in_the_middle_is_normal(path):
    """Unread bytes are lost and not counted; the next reader gets new ones."""

    async def scenario(sink):
        reader = reader_of(path)
        async with asyncio.TaskGroup() as group:
            delivering = group.create_task(sink.deliver(grant(b"x" * 20_000)))
            asyncio.get_running_loop().call_soon(os.close, reader)
        return delivering.result().delivered_bytes, await wants(sink)

    assert used(lambda: FifoSink(path), scenario) == (0, False)


def test_something_else_at_the_path_is_refused(path):
    """A regular file is not overwritten."""
    with open(path, "w") as file:
        file.write("precious")

    with pytest.raises(SinkRefused, match="is not a FIFO"):
        FifoSink(path)
    with open(path) as file:
        assert file.read() == "precious"


def test_a_fifo_in_a_missing_directory_is_refused(path):
    """The error names the path."""
    with pytest.raises(SinkRefused, match=r"cannot open .*/sink/fifo: No such file"):
        FifoSink(f"{path}/fifo")


def test_a_file_is_made_for_its_owner_alone_and_added_to(path):
    """Grants are appended, also after a restart."""
    for data in (b"first ", b"second"):
        used(lambda: FileSink(path), lambda sink, data=data: sink.deliver(grant(data)))

    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path, "rb") as file:
        assert file.read() == b"first second"


def test_a_file_with_a_limit_wants_exactly_that(path):
    """The last chunk is smaller, and then no more bytes are wanted."""

    async def scenario(sink):
        sizes = []
        while not sink.full:
            await sink.wait_wanted()
            sizes.append(sink.wanted_bytes())
            await sink.deliver(grant(bytes(sizes[-1])))
        return sizes, await wants(sink)

    assert used(lambda: FileSink(path, 40, total_bytes=100), scenario) == ([40, 40, 20], False)


def test_a_full_disk_is_a_refusal():
    """ENOSPC ends the stream with a message."""
    with pytest.raises(SinkRefused, match="cannot write to /dev/full: No space left"):
        used(lambda: FileSink("/dev/full"), lambda sink: sink.deliver(grant(b"x")))


def test_standard_output_gets_the_bytes():
    """A pipe's reader gets the delivered bytes."""
    reader, writer = os.pipe()

    async def scenario(sink):
        await sink.wait_wanted()
        await sink.deliver(grant(b"drawn"))
        return os.read(reader, 100)

    assert used(lambda: StdoutSink(fd=writer), scenario) == b"drawn"
    os.close(reader)
    os.close(writer)


def test_bytes_never_go_to_a_terminal():
    """A terminal as standard output is refused before any draw."""
    master, slave = pty.openpty()

    with pytest.raises(SinkRefused, match="is a terminal"):
        StdoutSink(fd=slave)
    os.close(slave)
    os.close(master)


def test_a_reader_that_left_standard_output_is_found_before_a_draw():
    """Without a reader no bytes are drawn."""
    reader, writer = os.pipe()
    os.close(reader)

    with pytest.raises(SinkRefused, match="reader of standard output has closed it"):
        used(lambda: StdoutSink(fd=writer), lambda sink: sink.wait_wanted())
    with pytest.raises(SinkRefused, match="Broken pipe"):
        used(lambda: StdoutSink(fd=writer), lambda sink: sink.deliver(grant(b"x")))
    os.close(writer)


def test_a_fifo_in_the_run_directory_needs_no_earlier_start(folder):
    """On a fresh machine `drawwell run` first creates its run directory."""
    site = Site(folder, sticks=(), more=f'[[sink]]\nkind = "fifo"\npath = "{folder}/run/web01.fifo"\n')

    async def scenario():
        async with running(site, consumers=True):
            pass

    asyncio.run(scenario())
    assert stat.S_ISFIFO((folder / "run/web01.fifo").stat().st_mode)
