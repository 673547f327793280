"""A broker without doors, with scripted sources and virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from drawwell.broker.account import Terms
from drawwell.broker.account_book import Leasing, none_else
from drawwell.broker.broker import LocalBroker, Rules
from drawwell.broker.receipts import Signing
from drawwell.broker.reservations import ReservationWriter
from drawwell.broker.supply import Supply
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed
from drawwell.entropy.blocks import DrawClass, FullEntropy, TestedBlock
from drawwell.entropy.conditioning import Conditioner
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.entropy.quota import QuotaState
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import StateUnavailable
from drawwell.ports import BodySigner
from drawwell.roles.source import SourceRole
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.waiting import until
from drawwell.units import Bits

UNLIMITED = Terms(frozenset(DrawClass), None, None)
CLAIM = NoiseClaim()
WALL = 1_700_000_000.0
"""The wall-clock time when the loop was created."""


class ThreadSigner:
    """A `BodySigner` that signs in a thread."""

    def __init__(self, key: ReceiptSigner) -> None:
        self._key = key
        self.key_id, self.fault = key.key_id, ""

    async def sign(self, bodies: Sequence[bytes]) -> list[bytes]:
        return await asyncio.to_thread(lambda: [self._key.sign_text(body) for body in bodies])


class Disk:
    """The state that survives a crash: the written reservations."""

    def __init__(self) -> None:
        self.states: dict[str, QuotaState] = {}
        self.writes: list[dict[str, QuotaState]] = []
        self.full = False

    def lease(self, states: Mapping[str, QuotaState]) -> Mapping[str, QuotaState]:
        """Write and grant all reservations or none."""
        if self.full:
            raise StateUnavailable("no space left", hint="Free some space.")
        self.writes.append(dict(states))
        self.states |= states
        return states


class Workbench:
    """One run of a broker on a disk. Without `run`, it has no tasks.

    Args:
        drivers: The sources' drivers.
        disk: From an earlier run; default: a new one.
        terms: The limits of each consumer.
        rules: The broker's rules; default: one source, a reseed every hour.
        capacity_bytes: Size of the reservoir.
        lease: Looks up consumers missing in `terms` at the first draw; finds none by default.
        fresh: Replaces the operating system's generator; zeros by default.
        signer: Signs receipts; default: `self.signer`, in a thread.
    """

    def __init__(
        self,
        *drivers: ScriptedSource,
        disk: Disk | None = None,
        terms: Mapping[str, Terms] | None = None,
        rules: Rules | None = None,
        capacity_bytes: int = 131_072,
        lease: Leasing = none_else,
        fresh: Callable[[int], bytes] = bytes,
        signer: BodySigner | None = None,
    ) -> None:
        self.disk = disk or Disk()
        reservoir = Reservoir(capacity_bytes, low_mark=capacity_bytes // 2, high_mark=capacity_bytes)
        rules = rules or Rules("bench")
        self.supply = Supply(reservoir, rules.min_sources)
        self.monitors = [HealthMonitor(CLAIM, hash_key=bytes(16)) for _ in drivers]
        self.sources = [
            SourceRole(driver, monitor, self.supply.depot, self.clock)
            for driver, monitor in zip(drivers, self.monitors, strict=True)
        ]
        self.write_ahead = ReservationWriter(self.disk.lease)
        self.signer = ReceiptSigner(receipt_key_from_seed(bytes(32)))
        self.signing = Signing(signer or ThreadSigner(self.signer))
        self.broker = LocalBroker(
            rules,
            self.supply,
            self.sources,
            write_ahead=self.write_ahead,
            signing=self.signing,
            first_serial=0,
            fresh=fresh,
            clock=self.clock,
            lease=lease,
        )
        self.broker.book.set_terms({"web01": UNLIMITED} if terms is None else terms, self.disk.states.get)

    def clock(self) -> float:
        """Return the loop's wall-clock time."""
        return WALL + asyncio.get_running_loop().time()

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Run sources and reservations in the block; raise their error unchanged."""
        failed: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.write_ahead.run()), group.create_task(self.signing.run())]
            tasks += [group.create_task(source.run()) for source in self.sources]
            try:
                yield
            except BaseException as error:  # noqa: BLE001 - raised below, without a group round it
                failed = error
            for task in tasks:
                task.cancel()
        if failed is not None:
            raise failed

    async def until_filled(self) -> None:
        """Wait until the sources pause because the reservoir is full."""
        await until(lambda: not self.supply.wanted, "the reservoir was filled")

    def put(self, data: bytes) -> None:
        """Put known bytes into the reservoir, as if a source had produced them."""
        for start in range(0, len(data), 64):
            piece = data[start : start + 64]
            self.supply.assess(Bits(8 * len(piece) + 64))
            self.supply.deposit(FullEntropy(bytearray(piece)))


def conditioned(blocks: Sequence[bytes]) -> bytes:
    """Return the complete outputs of one conditioner for `blocks`."""
    conditioner = Conditioner()
    return b"".join(conditioner.feed(TestedBlock(block, CLAIM.assessed(len(block)))).data for block in blocks)
