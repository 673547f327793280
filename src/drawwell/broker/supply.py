"""What sources deposit into and the broker takes from: lanes, reservoir and ledger, moved together (law 4)."""

from collections.abc import Iterable

from drawwell.broker.queue import DrawQueue
from drawwell.entropy.blocks import FullEntropy, TestedBlock
from drawwell.entropy.combining import OUTPUT_BYTES, RecentOutputs, combine, digest_of, new_lane
from drawwell.entropy.ledger import Ledger
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import SourceRejected
from drawwell.ports import Depositing, Source
from drawwell.reports import LedgerReport, SourceIdentity
from drawwell.units import Bits


class Supply:
    """The reservoir with its account.

    Args:
        reservoir: What the broker takes from.
        n_sources: How many sources are combined in each byte; with 1, outputs go into the reservoir as they come.
    """

    def __init__(self, reservoir: Reservoir, n_sources: int = 1) -> None:
        self.reservoir = reservoir
        self.n_sources = n_sources
        self.queue = DrawQueue(reservoir)
        self._ledger = Ledger()
        self._depots: list[SourceDepot] = []
        self._lanes: list[Reservoir] = []
        self._was_wanted = reservoir.wanted

    @property
    def wanted(self) -> bool:
        """Should the reservoir be filled now?"""
        return self.reservoir.wanted

    def depot(self, source: Depositing) -> "SourceDepot":
        """Return the place where `source` deposits."""
        depot = SourceDepot(self, source)
        self._depots.append(depot)
        if depot.store is not self.reservoir:
            self._lanes.append(depot.store)
        return depot

    def remove(self, depot: "SourceDepot") -> None:
        """Forget a source, and discard everything, so that no byte has an origin that is not known here."""
        self.wipe()
        self._depots.remove(depot)
        self._lanes = [lane for lane in self._lanes if lane is not depot.store]

    def holder_of(self, identity: SourceIdentity) -> "SourceDepot | None":
        """Return the depot of the source that reads this device now."""
        return next((each for each in self._depots if each.holds(identity)), None)

    def assess(self, bits: Bits) -> None:
        """Count what samples that passed the health tests were assessed at."""
        self._ledger.assess(bits)

    def deposit(self, output: FullEntropy) -> None:
        """Move conditioned bytes into the reservoir; what does not fit is discarded and counted so."""
        self._ledger.condition(Bits(8 * len(output)))
        self._put(self.reservoir, output)
        self.queue.look()
        self._settle()

    def lay_in(self, depot: "SourceDepot", output: FullEntropy) -> None:
        """Move one output into the lane of `depot`, unless another source gave the same one: then both fail.

        The XOR of the two would be zeros, and what they gave before came from one source, so all of it is discarded.
        """
        self._ledger.condition(Bits(8 * len(output)))
        digest = digest_of(output)
        depot.recent.add(digest)
        for other in self._depots:
            if other is not depot and digest in other.recent:
                depot.condemn(other)
                other.condemn(depot)
                self.wipe()
        if depot.healthy:
            self._put(depot.store, output)
        else:
            self._ledger.discard(Bits(8 * len(output)))
            output.data[:] = bytes(len(output))
        self._settle()
        depot.wake_if_turned()

    def divert(self, n_bytes: int) -> None:
        """Count conditioned bytes that went to a test or were lost."""
        self._ledger.condition(Bits(8 * n_bytes))
        self._ledger.discard(Bits(8 * n_bytes))

    def take(self, n_bytes: int) -> FullEntropy:
        """Remove `n_bytes` for good; the caller overwrites them after use.

        Raises:
            Starved: the reservoir holds fewer; nothing was taken.
        """
        taken = self.reservoir.take(n_bytes)
        self._ledger.deliver(Bits(8 * n_bytes))
        if self.reservoir.wanted:
            self._settle()
        return taken

    def wipe(self) -> int:
        """Discard everything; return how many bytes that were."""
        wiped = self.discard_from(self.reservoir) + sum(map(self.discard_from, self._lanes))
        self._settle()
        return wiped

    def discard_from(self, store: Reservoir) -> int:
        """Discard what a lane or the reservoir holds; return how many bytes that were."""
        wiped = store.wipe()
        self._ledger.discard(Bits(8 * wiped))
        return wiped

    def count_drbg(self, n_bytes: int) -> None:
        """Count DRBG output, which is never called entropy."""
        self._ledger.drbg(n_bytes)

    def report(self) -> LedgerReport:
        """The account as it stands."""
        return self._ledger.report(len(self.reservoir), sum(map(len, self._lanes)))

    def _put(self, store: Reservoir, output: FullEntropy) -> None:
        size = len(output)
        self._ledger.discard(Bits(8 * (size - store.put(output))))

    def _settle(self) -> None:
        """Combine what the reservoir wants, and wake the sources whose wishes changed by it."""
        if self._combine() or self.reservoir.wanted is not self._was_wanted:
            self._was_wanted = self.reservoir.wanted
            for depot in self._depots:
                depot.wake_if_turned()

    def _combine(self) -> bool:
        """Fill the reservoir from the lanes while it wants; return whether anything came in."""
        came_in = False
        while self._lanes and self.reservoir.wanted:
            output = combine(self._lanes, self.n_sources)
            if output is None:
                break
            self._ledger.combine(Bits(8 * OUTPUT_BYTES * (self.n_sources - 1)))
            self._put(self.reservoir, output)
            came_in = True
        if came_in:
            self.queue.look()
        return came_in


class SourceDepot:
    """Where one source deposits (`ports.Depot`): a lane of its own, or straight into the reservoir."""

    def __init__(self, supply: Supply, source: Depositing) -> None:
        self.store = new_lane() if supply.n_sources > 1 else supply.reservoir
        self.recent = RecentOutputs()
        self._supply = supply
        self._source = source
        self._device: SourceIdentity | None = None
        self._was_wanted = self.wanted

    @property
    def wanted(self) -> bool:
        """Should the source be read now?"""
        return self.store.wanted

    @property
    def healthy(self) -> bool:
        """May the source's outputs be used now?"""
        return self._source.healthy

    def holds(self, identity: SourceIdentity) -> bool:
        """Return whether the source reads that device now."""
        return self._device is not None and self._device.is_same_device(identity)

    def claim(self, identity: SourceIdentity) -> None:
        """Take the device as this source's own until `release`.

        What waits to be combined and came from another device is discarded.

        Raises:
            SourceRejected: another source reads it.
        """
        holder = self._supply.holder_of(identity)
        if holder is not None and holder is not self:
            raise SourceRejected(
                f"{identity.path} is the device that source {holder.name} reads",
                hint="Configure each device once: two names do not make two sources of it.",
            )
        if self._device and not self.holds(identity):
            self.wipe()
        self._device = identity

    def release(self) -> None:
        """Give up the device, and discard what waits to be combined."""
        self._device = None
        self.wipe()

    def wipe(self) -> None:
        """Discard what waits to be combined, after a failure of the source."""
        if self.store is not self._supply.reservoir:
            self._supply.discard_from(self.store)
            self.wake_if_turned()

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    def condemn(self, twin: "SourceDepot") -> None:
        """Fail the source for good, as it gives what `twin` gives."""
        self._source.condemn(f"it gave an output that source {twin.name} gave: they are one source, not two")

    def assess(self, block: TestedBlock) -> None:
        """Count a block that passed the health tests."""
        self._supply.assess(block.assessed)

    def deposit(self, output: FullEntropy) -> None:
        """Take over one or more conditioned outputs; what does not fit is discarded and counted so."""
        origins = frozenset({self._source.origin})
        if self.store is self._supply.reservoir:
            self._supply.deposit(FullEntropy(output.data, origins))
            return
        with memoryview(output.data) as data:
            for start in range(0, len(data), OUTPUT_BYTES):
                piece = bytearray(data[start : start + OUTPUT_BYTES])
                self._supply.lay_in(self, FullEntropy(piece, origins))
            data[:] = bytes(len(data))

    def take_over(self, assessed: Bits, spoilt_bytes: int, output: FullEntropy) -> None:
        """Take over what was assessed and conditioned in another process; `spoilt_bytes` of it are lost."""
        self._supply.assess(assessed)
        self._supply.divert(spoilt_bytes)
        if len(output):
            self.deposit(output)

    def divert(self, output: FullEntropy) -> None:
        """Count an output that went to a test instead of the reservoir."""
        self._supply.divert(len(output))

    def wake_if_turned(self) -> None:
        """Wake the source if it became wanted, or is wanted no more."""
        if self.wanted is not self._was_wanted:
            self._was_wanted = self.wanted
            self._source.wake()


def no_source_hint(sources: Iterable[Source]) -> str:
    """Return what to do about too few healthy sources."""
    paused = [source.name for source in sources if source.report().paused]
    if paused:
        return f"An operator paused it; on the broker's machine: 'drawwell onerng resume {paused[0]}'."
    return "See 'drawwell doctor' on the broker's machine."
