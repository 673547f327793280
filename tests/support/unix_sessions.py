"""Raw sessions with a Unix door."""

import asyncio

from drawwell.doors.unix import UnixDoor
from drawwell.wire.frames import Bye, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.parser import FrameParser

ANY = {kind.TYPE: kind for kind in (Welcome, Granted, Refusal, Result, Bye)}


def named(uid: int, gid: int, pid: int) -> str:
    return f"uid{uid}"


async def greeted(door: UnixDoor) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a raw session."""
    reader, writer = await asyncio.open_unix_connection(door.path)
    writer.write(Hello((1,)).encode())
    assert isinstance(await read_frame(reader), Welcome)
    return reader, writer


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """Read one frame."""
    head = await reader.readexactly(4)
    parser = FrameParser()
    parser.feed(head + await reader.readexactly(int.from_bytes(head[1:], "big")))
    frame = parser.next_frame(ANY)
    assert frame is not None
    return frame


async def drained(reader: asyncio.StreamReader) -> bytes:
    """Read until the door has closed."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""
