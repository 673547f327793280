"""Attacks on enrolment: a joiner's faults affect only that joiner."""

import asyncio

import pytest

from drawwell.crypto.tokens import parse_token
from drawwell.errors import LinkUnavailable
from drawwell.links.enrol import join
from support.station import Site, running


def test_a_fault_of_ours_ends_one_enrolment_and_nothing_else(folder, monkeypatch) -> None:
    """A joiner that triggers a bug gets no answer; the next one joins."""
    site = Site(folder)

    async def run() -> None:
        async with running(site) as process:
            invitation = await site.ask("consumer.invite", {"name": "web01"})
            admin = process.station._admin
            assert admin
            with monkeypatch.context() as patched:
                patched.setattr(admin, "redeem", lambda request: 1 // 0)
                with pytest.raises(LinkUnavailable):
                    await asyncio.to_thread(join, parse_token(invitation["token"]), str(folder / "one"))
            await site.ask("status")
            identity = await asyncio.to_thread(join, parse_token(invitation["token"]), str(folder / "two"))
            assert identity.consumer == "web01"

    asyncio.run(run())
