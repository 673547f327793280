"""The link's answers about several brokers."""

import asyncio
from typing import Any

import pytest

from drawwell.authorisation import ANYONE
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import DrawRefused, LinkUnavailable
from drawwell.links.failover import Failover
from drawwell.roles.link_process import Relay


class KeyOnly:
    """A broker that only answers with its receipt key, or is down."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.name = "tls://a"
        self._answer = answer

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        if self._answer is None:
            raise LinkUnavailable("it is down")
        return self._answer


def keys(*answers: dict[str, Any] | None) -> str:
    links = [KeyOnly(answer) for answer in answers]
    relay = Relay(Failover(links, jitter=lambda: 0.5, mix=2), dict(enumerate(links)), mix=2)
    return asyncio.run(relay.call(ANYONE, "receipt-key", {}))["public_key"]


def test_the_receipt_keys_are_those_of_all_brokers_that_answer() -> None:
    """A broker that is down, or sends no key, hides no other key."""
    assert keys({"public_key": "A"}, {"public_key": "B"}) == "AB"
    assert keys({"public_key": "A"}, None) == "A"
    assert keys({}, {"public_key": "B"}) == "B"


def test_without_any_broker_there_is_an_error() -> None:
    """If no broker answers, the call fails."""
    with pytest.raises(LinkUnavailable):
        keys(None, None)


def test_a_receipt_of_four_brokers_is_refused_and_nothing_is_drawn() -> None:
    """The refusal comes before any broker is asked; these cannot draw."""
    links = [KeyOnly(None)] * 4
    relay = Relay(Failover(links, jitter=lambda: 0.5, mix=4), {}, mix=4)
    with pytest.raises(DrawRefused, match="receipts of at most 3 brokers"):
        asyncio.run(relay.draw(ANYONE, DrawRequest(32, DrawClass.FULL, receipt=True)))
