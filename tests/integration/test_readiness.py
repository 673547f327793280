"""service/readiness.py on a real pipe."""

import asyncio
import os
import select

import pytest

from drawwell.service.readiness import readable, writable


@pytest.fixture
def pipe():
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def fill(fd: int) -> None:
    while select.select([], [fd], [], 0)[1]:
        os.write(fd, bytes(select.PIPE_BUF))


def test_readiness_is_returned_and_nothing_is_left_behind(pipe) -> None:
    """The wait returns True if ready, False at the timeout, without leftovers."""
    reading, writing = pipe

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert not await readable(reading, 0.01)
        assert await writable(writing, 0.01)
        fill(writing)
        assert not await writable(writing, 0.01)
        assert await readable(reading)
        assert (loop.remove_reader(reading), loop.remove_writer(writing)) == (False, False)

    asyncio.run(run())


def test_what_cannot_be_polled_is_said_to_be_so(tmp_path) -> None:
    """A regular file raises PermissionError, like epoll."""
    with open(tmp_path / "file", "wb") as file, pytest.raises(PermissionError):
        asyncio.run(writable(file.fileno()))
