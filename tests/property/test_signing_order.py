"""Grants and signatures, for any order of draws, failures and ends."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from drawwell.broker.receipts import Signing
from drawwell.crypto.receipts import (
    ReceiptBody,
    ReceiptSigner,
    receipt_key_from_seed,
    verify_receipt,
)
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import StateUnavailable
from drawwell.testing.virtual_time import run_virtually

KEY = ReceiptSigner(receipt_key_from_seed(bytes(32)))


def grant(serial: int) -> Grant:
    """Return the unsigned grant with this serial number."""
    data, key = serial.to_bytes(4, "big"), bytes([serial]) * 32
    body = ReceiptBody.of(
        broker="well", consumer="web01", sources=(), draw_class=DrawClass.DRBG, serial=serial, time=1.0,
        data=data, key=key, key_id=KEY.key_id,
    ).checked()  # fmt: skip
    return Grant(data, serial, DrawClass.DRBG, receipt_key=key, unsigned=body)


class Slow:
    """A signer that needs a second for each batch, and can fail."""

    key_id, fault = KEY.key_id, ""

    def __init__(self, fails: Sequence[bool]) -> None:
        self.bodies: list[bytes] = []
        self._fails = list(fails)

    async def sign(self, bodies: Sequence[bytes]) -> list[bytes]:
        self.bodies += bodies
        await asyncio.sleep(1)
        if self._fails and self._fails.pop():
            raise StateUnavailable("no answer")
        return [KEY.sign_text(body) for body in bodies]


@given(
    times=st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(0, 6)), min_size=1, max_size=20),
    fails=st.lists(st.booleans(), max_size=8),
    ends_at=st.none() | st.integers(0, 8),
)
def test_each_grant_has_its_own_signature_or_none(times, fails, ends_at) -> None:
    """Every receipt matches its grant, in order, and none is signed twice.

    `times` has when each draw asks and when it is cancelled, if ever, in half seconds; at
    `ends_at` the signer stops for good, as when the door and the broker close.
    """
    signer, asked, answered = Slow(fails), list[int](), list[int]()

    async def ask(signing: Signing, serial: int, asks_at: int) -> str:
        await asyncio.sleep(asks_at / 2)
        asked.append(serial)
        unsigned = grant(serial)
        try:
            signed = await signing.sign(unsigned)
        except StateUnavailable:
            return "lost"
        answered.append(serial)
        assert verify_receipt(signed.receipt, KEY.public_key, unsigned.data, unsigned.receipt_key)
        assert (signed.unsigned, signed.data) == (b"", unsigned.data)
        return "signed"

    async def run() -> list[object]:
        signing, loop = Signing(signer), asyncio.get_running_loop()
        running = loop.create_task(signing.run())
        asking = [loop.create_task(ask(signing, serial, at)) for serial, (at, _) in enumerate(times)]
        for task, (_, cancelled_at) in zip(asking, times, strict=True):
            if cancelled_at is not None:
                loop.call_later(cancelled_at / 2 + 0.25, task.cancel)
        if ends_at is not None:
            loop.call_later(ends_at / 2 + 0.125, running.cancel)
        await asyncio.wait(asking, timeout=60)
        running.cancel()
        for task in asking:
            task.cancel()
        return await asyncio.gather(*asking, return_exceptions=True)

    outcomes = run_virtually(run())
    assert len(signer.bodies) == len(set(signer.bodies))
    assert answered == [serial for serial in asked if serial in answered]
    for (_, cancelled_at), outcome in zip(times, outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert cancelled_at is not None or ends_at is not None
        else:
            assert outcome in {"signed", "lost"}
