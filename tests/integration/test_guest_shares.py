"""Guests' requests, within their consumers' shares of the loop."""

import asyncio
import math
import socket
import time
from pathlib import Path

from drawwell.doors.qemu_egd.connection import GuestEgdConnection
from drawwell.doors.qemu_egd.door import GuestEgdDoor
from drawwell.doors.shares import shares_of
from drawwell.entropy.blocks import DrawClass
from support.fake_broker import FakeBroker
from support.serving import serving

REQUEST = b"\x02\x40"


def test_a_guest_beyond_its_share_is_served_in_its_turn(tmp_path: Path) -> None:
    """The guest is answered when no other consumer needs the loop."""

    async def run() -> None:
        loop, door = (
            asyncio.get_running_loop(),
            GuestEgdDoor(str(tmp_path / "egd"), FakeBroker(), "vm1", DrawClass.DRBG),
        )
        async with serving(door):
            shares = shares_of(loop)
            share = shares.of("vm1")
            share.within(time.perf_counter())
            shares.round_ends = math.inf  # however long the machine needs for the next line
            share.charge(1.0)
            ours, theirs = socket.socketpair()
            with theirs:
                ours.setblocking(False)
                theirs.setblocking(False)
                theirs.send(REQUEST)
                connection = GuestEgdConnection(door, ours)
                connection.begin()
                assert share.waiting == [connection]
                assert len(await loop.sock_recv(theirs, 64)) == 64

    asyncio.run(run())
