"""One session without sockets: outstanding bytes and its end."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from drawwell.authorisation import DoorKind
from drawwell.doors.session import MAX_OWED_BYTES, BrokerSession
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import Starved
from drawwell.wire.frames import Frame
from drawwell.wire.limits import MAX_DRAW_BYTES
from drawwell.wire.session import ClientSession, State
from support.fake_broker import FakeBroker
from support.outgoing import taken
from support.principals import consumer

FULL = DrawClass.FULL


class Talk:
    """A client's session and its server side; `waiting` has the tasks."""

    def __init__(self, broker: FakeBroker) -> None:
        self.waiting: list[Coroutine[Any, Any, None]] = []
        self.client = ClientSession()
        self.conversation = BrokerSession(
            broker, "attic", lambda: consumer("web01"), way=DoorKind.TLS, spawn=self.waiting.append
        )
        self.say(self.client.hello())

    def say(self, data: bytes) -> list[Frame]:
        """Send client data; return the immediate answers."""
        self.conversation.session.receive_data(data)
        while self.conversation.step():
            pass
        return self.received()

    def received(self) -> list[Frame]:
        self.client.receive_data(taken(self.conversation.outgoing))
        return list(iter(self.client.next_event, None))


def test_a_refused_draw_is_owed_no_longer() -> None:
    """After any number of refused large draws, the next one is processed."""
    talk = Talk(FakeBroker(refuse=lambda consumer, n_bytes: Starved("empty")))
    for _ in range(2 * MAX_OWED_BYTES // MAX_DRAW_BYTES):
        request_id, data = talk.client.draw(DrawRequest(MAX_DRAW_BYTES, FULL))
        assert [frame.request_id for frame in talk.say(data)] == [request_id]  # type: ignore[attr-defined]
    assert not talk.conversation.stalled


def test_a_grant_after_the_end_is_not_sent() -> None:
    """A draw that outlasts its session ends silently, without an error."""

    async def run() -> None:
        gate = asyncio.Event()
        talk = Talk(FakeBroker(gate=gate))
        talk.say(talk.client.draw(DrawRequest(32, FULL))[1])
        assert len(talk.waiting) == 1
        talk.conversation.end("enough")
        assert [type(frame).__name__ for frame in talk.received()] == ["Bye"]
        gate.set()
        await talk.waiting[0]
        assert talk.conversation.outgoing == []

    asyncio.run(run())


def test_a_receipt_signed_after_the_end_is_not_sent() -> None:
    """The grant is lost if the session ends before the receipt is signed."""
    talk = Talk(FakeBroker())
    assert talk.say(talk.client.draw(DrawRequest(32, FULL, receipt=True))[1]) == []
    talk.conversation.end("enough")
    talk.received()
    asyncio.run(talk.waiting[0])  # type: ignore[arg-type]  # a coroutine function's
    assert talk.conversation.outgoing == []


def test_receipts_are_sent_when_they_are_signed() -> None:
    """A draw without a receipt overtakes one that waits for its signature."""
    talk = Talk(FakeBroker())
    receipted = talk.client.draw(DrawRequest(32, FULL, receipt=True))[1]
    plain_id, plain = talk.client.draw(DrawRequest(32, FULL))
    assert [frame.request_id for frame in talk.say(receipted + plain)] == [plain_id]  # type: ignore[attr-defined]
    asyncio.run(talk.waiting[0])  # type: ignore[arg-type]
    assert [frame.receipt for frame in talk.received()] == [b"a receipt of nothing"]  # type: ignore[attr-defined]


def test_a_broken_session_ends_with_its_reason() -> None:
    """The peer's error is kept for the door and sent in the BYE."""
    talk = Talk(FakeBroker())
    goodbye = talk.say(b"\xff" * 8)

    assert (talk.conversation.over, talk.conversation.session.state) == (True, State.CLOSED)
    assert talk.conversation.fault
    assert [frame.reason for frame in goodbye] == [talk.conversation.fault]  # type: ignore[attr-defined]
