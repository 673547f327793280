"""Receipts that cannot be signed are refused, or charged and lost."""

import asyncio
from collections.abc import Sequence

import pytest

from drawwell.broker import receipts
from drawwell.broker.receipts import Signing
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed, verify_receipt
from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.errors import StateUnavailable
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from support.principals import consumer
from support.workbench import Workbench
from unit.broker.known_bench import DRBG, FULL, KNOWN, on_bench, refusal

KEY = ReceiptSigner(receipt_key_from_seed(bytes(32)))
RECEIPTED = DrawRequest(32, FULL, receipt=True)


class MovedSigner:
    """A signer that a test can stop and break; it records each body."""

    key_id = KEY.key_id

    def __init__(self) -> None:
        self.fault = ""
        self.broken = False
        self.bodies: list[bytes] = []
        self.batches: list[int] = []
        self.go = asyncio.Event()

    async def sign(self, bodies: Sequence[bytes]) -> list[bytes]:
        self.bodies += bodies
        self.batches.append(len(bodies))
        await self.go.wait()
        if self.broken:
            raise StateUnavailable("the signer has ended", hint="Start it again.")
        return [KEY.sign_text(body) for body in bodies]


@pytest.mark.parametrize("draw_class", [FULL, DRBG])
def test_nothing_is_taken_without_a_signer(draw_class) -> None:
    """A draw with a receipt is refused with the reason; one without is served."""

    signer = MovedSigner()

    async def scenario(bench: Workbench) -> None:
        signer.fault = "its process is gone"
        request = DrawRequest(32, draw_class, receipt=True)
        with pytest.raises(StateUnavailable, match="cannot sign receipts: its process is gone") as refused:
            bench.broker.try_draw(consumer(), request)
        assert refused.value.hint
        assert await refusal(bench.broker.draw(consumer(), request)) == "StateUnavailable"
        assert len(bench.supply.reservoir) == len(KNOWN)
        assert (await bench.broker.consumer_report("web01")).draws == 0
        assert bench.broker.try_draw(consumer(), DrawRequest(32, draw_class))

    on_bench(scenario, signer=signer)


def test_a_lost_signature_is_charged_and_not_made_again() -> None:
    """The draw fails with the reason, and its body is not signed again."""
    signer = MovedSigner()

    async def scenario(bench: Workbench) -> None:
        signer.broken = True
        signer.go.set()
        grant = bench.broker.try_draw(consumer(), RECEIPTED)
        with pytest.raises(StateUnavailable, match="the bytes are lost: the signer has ended"):
            await bench.broker.sign(grant)
        signer.broken = False
        assert (await bench.broker.consumer_report("web01")).draws == 1
        another = await bench.broker.sign(bench.broker.try_draw(consumer(), RECEIPTED))
        assert verify_receipt(another.receipt, KEY.public_key, another.data, another.receipt_key)
        assert signer.bodies == [grant.unsigned, signer.bodies[1]]

    on_bench(scenario, signer=signer)


def test_what_comes_while_one_batch_is_signed_makes_up_the_next() -> None:
    """Thirty receipts need three batches: of 1, 16 and 13."""
    signer = MovedSigner()

    async def scenario(bench: Workbench) -> None:
        grants = [bench.broker.try_draw(consumer(), RECEIPTED) for _ in range(30)]
        async with asyncio.TaskGroup() as group:
            first = group.create_task(bench.broker.sign(grants[0]))
            await until(lambda: bool(signer.batches), "the first is being signed")
            tasks = [first] + [group.create_task(bench.broker.sign(each)) for each in grants[1:]]
            await asyncio.sleep(1)
            signer.go.set()
        assert signer.batches == [1, 16, 13]
        assert signer.bodies == [each.unsigned for each in grants]
        for grant, task in zip(grants, tasks, strict=True):
            assert verify_receipt(task.result().receipt, KEY.public_key, grant.data, grant.receipt_key)

    on_bench(scenario, signer=signer)


def test_a_signer_that_is_behind_stops_draws_with_receipts(monkeypatch) -> None:
    """The number of grants that wait for a signature is limited."""
    monkeypatch.setattr(receipts, "MOST_UNSIGNED", 2)
    signer = MovedSigner()

    async def scenario(bench: Workbench) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(bench.broker.sign(bench.broker.try_draw(consumer(), RECEIPTED)))
                await asyncio.sleep(1)
            assert await refusal(bench.broker.draw(consumer(), RECEIPTED)) == "StateUnavailable"
            signer.go.set()
        assert bench.broker.try_draw(consumer(), RECEIPTED)

    on_bench(scenario, signer=signer)


def test_a_grant_without_a_receipt_passes_the_signer_by() -> None:
    """A grant without a receipt is returned even if signing is impossible."""
    grant = Grant(b"x", 1, FULL)
    assert run_virtually(Signing(MovedSigner()).sign(grant)) is grant
