"""Attacks from inside a session: one peer must not affect the others."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from drawwell.authorisation import Principal
from drawwell.doors.door import Limits
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.errors import LinkUnavailable
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S, until
from support.fake_broker import FakeBroker
from support.serving import serving


class FaultyBroker(FakeBroker):
    """A broker with a bug: some requests raise an unexpected exception."""

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:
        if request.n_bytes == 66:
            raise ZeroDivisionError("at once")
        return None if request.n_bytes == 67 else super().try_draw(principal, request)

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        if request.n_bytes == 67:
            raise ZeroDivisionError("later")
        return await super().draw(principal, request)

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        if verb == "status":
            return {"no JSON": {1, 2}}
        if verb == "renew":
            raise ZeroDivisionError("in a verb")
        return await super().call(principal, verb, args)


def named(uid: int, gid: int, pid: int) -> str:
    return "me"


@pytest.mark.parametrize("request_", [66, 67, "renew", "status"])
def test_a_fault_of_ours_ends_one_session_and_no_other(tmp_path: Path, request_: int | str) -> None:
    """A peer that triggers a bug loses its connection; others are served."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FaultyBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            other, culprit = UnixLink(door.address), UnixLink(door.address)
            await other.draw(8, DrawClass.FULL)
            is_draw = isinstance(request_, int)
            asked = culprit.draw(request_, DrawClass.FULL) if is_draw else culprit.call(request_, {})
            with pytest.raises(LinkUnavailable):
                await asked
            await other.draw(8, DrawClass.FULL)
            await culprit.draw(8, DrawClass.FULL)
            for link in (other, culprit):
                await link.aclose()

    asyncio.run(run())


def test_a_consumer_with_too_many_sessions_loses_its_own(tmp_path: Path) -> None:
    """A consumer's oldest session makes room; others keep theirs."""
    names = iter(["modest", *["greedy"] * 9, "late"])
    known: dict[int, str] = {}

    async def run() -> None:
        door = UnixDoor(
            str(tmp_path / "draw"), FakeBroker(), named, limits=Limits(max_sessions=6, max_sessions_each=3)
        )
        door.identify = lambda uid, gid, pid: known[pid]
        async with serving(door), asyncio.timeout(DEADLINE_S):
            links = []
            for known[os.getpid()] in names:
                links.append(UnixLink(door.address))
                await links[-1].welcome()
            await until(lambda: door.sessions == 5, "one modest, three greedy, one late")
            assert door.counts.crowded_out == 6
            modest, *greedy, late = [link._protocol.transport for link in links]
            assert modest
            assert late
            assert [bool(link) for link in greedy] == [False] * 6 + [True] * 3
            for link in links:
                await link.aclose()

    asyncio.run(run())
