"""Attacks by a broker on its consumers: endless waits are limited."""

import asyncio

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import QuotaExceeded, Refused, Starved
from drawwell.links.failover import Failover
from drawwell.roles.consumer import ConsumerRole
from drawwell.testing.virtual_time import run_virtually

FOR_EVER_S = 1.8e13
"""The longest wait that a refusal can contain."""
FULL = DrawClass.FULL


class Broker:
    """A broker that once requests an endless wait."""

    name = "liar"

    def __init__(self, error: Refused) -> None:
        self.errors = [error]
        self.granted = asyncio.Event()

    async def draw(self, n_bytes: int, draw_class: DrawClass, **wishes: object) -> Grant:
        if self.errors:
            raise self.errors.pop()
        self.granted.set()
        return Grant(bytes(n_bytes), 1, draw_class)

    async def aclose(self) -> None:
        pass


class Sink:
    """A sink that always wants bytes."""

    async def wait_wanted(self) -> None:
        await asyncio.sleep(1)

    def wanted_bytes(self) -> int:
        return 32

    async def deliver(self, grant: Grant) -> None:
        pass

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("kind", [Starved, QuotaExceeded])
@pytest.mark.parametrize("several", [False, True])
def test_a_consumer_that_is_asked_to_wait_for_ever_retries(kind, several) -> None:
    """In the meantime the operator may have raised the quota or fixed a fault."""

    async def scenario() -> None:
        broker = Broker(kind("wait", retry_after_s=FOR_EVER_S))
        now = asyncio.get_running_loop().time
        upstream = Failover([broker], jitter=lambda: 1.0, now=now) if several else broker
        role = ConsumerRole(upstream, Sink(), FULL, jitter=lambda: 1.0)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(role.run())
            async with asyncio.timeout(600):
                await broker.granted.wait()
            running.cancel()

    run_virtually(scenario())
