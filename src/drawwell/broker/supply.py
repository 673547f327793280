"""The supply: lanes, reservoir and ledger, which change together (law 4)."""

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
    """The reservoir, its ledger, and the sources' lanes.

    Args:
        reservoir: The reservoir that the broker takes bytes from.
        n_sources: How many sources each byte combines; if 1, outputs bypass the lanes.
    """

    def __init__(self, reservoir: Reservoir, n_sources: int = 1) -> None:
        self.reservoir = reservoir
        self.n_sources = n_sources
        self.queue = DrawQueue(reservoir)
        self.ledger = Ledger()
        self._depots: list[SourceDepot] = []
        self._lanes: list[Reservoir] = []
        self._was_wanted = reservoir.wanted

    @property
    def wanted(self) -> bool:
        """Whether the reservoir should be filled now."""
        return self.reservoir.wanted

    def depot(self, source: Depositing) -> "SourceDepot":
        """Create the depot for `source`."""
        depot = SourceDepot(self, source)
        self._depots.append(depot)
        if depot.store is not self.reservoir:
            self._lanes.append(depot.store)
        return depot

    def remove(self, depot: "SourceDepot") -> None:
        """Remove a source and all stored bytes, to keep every byte's origin known."""
        self.wipe()
        self._depots.remove(depot)
        self._lanes = [lane for lane in self._lanes if lane is not depot.store]

    def holder_of(self, identity: SourceIdentity) -> "SourceDepot | None":
        """Return the depot of the source that reads this device now."""
        return next((each for each in self._depots if each.holds(identity)), None)

    def assess(self, bits: Bits) -> None:
        """Add the assessed entropy of samples that passed the health tests."""
        self.ledger.assess(bits)

    def deposit(self, output: FullEntropy) -> None:
        """Store conditioned bytes; discard and count those that do not fit."""
        self.ledger.condition(Bits(8 * len(output)))
        self._put(self.reservoir, output)
        self.queue.look()
        self._settle()

    def lay_in(self, depot: "SourceDepot", output: FullEntropy) -> None:
        """Store an output in the lane of `depot`.

        If another source gave an equal output, the two sources are really one: both fail, and
        all stored bytes are discarded.
        """
        self.ledger.condition(Bits(8 * len(output)))
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
            self.ledger.discard(Bits(8 * len(output)))
            output.data[:] = bytes(len(output))
        self._settle()
        depot.wake_if_turned()

    def divert(self, n_bytes: int) -> None:
        """Count conditioned bytes that were used for a test or lost."""
        self.ledger.condition(Bits(8 * n_bytes))
        self.ledger.discard(Bits(8 * n_bytes))

    def take(self, n_bytes: int) -> FullEntropy:
        """Remove and return `n_bytes`; the caller must overwrite them after use.

        Raises:
            Starved: the reservoir has fewer bytes; none were taken.
        """
        taken = self.reservoir.take(n_bytes)
        self.ledger.deliver(Bits(8 * n_bytes))
        if self.reservoir.wanted:
            self._settle()
        return taken

    def wipe(self) -> int:
        """Discard all stored bytes; return their number."""
        wiped = self.discard_from(self.reservoir) + sum(map(self.discard_from, self._lanes))
        self._settle()
        return wiped

    def discard_from(self, store: Reservoir) -> int:
        """Discard the bytes in a lane or the reservoir; return their number."""
        wiped = store.wipe()
        self.ledger.discard(Bits(8 * wiped))
        return wiped

    def report(self) -> LedgerReport:
        """Return the current ledger."""
        return self.ledger.report(len(self.reservoir), sum(map(len, self._lanes)))

    def _put(self, store: Reservoir, output: FullEntropy) -> None:
        size = len(output)
        self.ledger.discard(Bits(8 * (size - store.put(output))))

    def _settle(self) -> None:
        """Combine outputs for the reservoir; wake sources if `wanted` changed."""
        if self._combine() or self.reservoir.wanted is not self._was_wanted:
            self._was_wanted = self.reservoir.wanted
            for depot in self._depots:
                depot.wake_if_turned()

    def _combine(self) -> bool:
        """Fill the reservoir from the lanes; return whether bytes were added."""
        filled = False
        while self._lanes and self.reservoir.wanted:
            output = combine(self._lanes, self.n_sources)
            if output is None:
                break
            self.ledger.combine(Bits(8 * OUTPUT_BYTES * (self.n_sources - 1)))
            self._put(self.reservoir, output)
            filled = True
        if filled:
            self.queue.look()
        return filled


class SourceDepot:
    """Where one source deposits: its lane or the reservoir (`ports.Depot`)."""

    def __init__(self, supply: Supply, source: Depositing) -> None:
        self.store = new_lane() if supply.n_sources > 1 else supply.reservoir
        self.recent = RecentOutputs()
        self._supply = supply
        self._source = source
        self._device: SourceIdentity | None = None
        self._was_wanted = self.wanted

    @property
    def wanted(self) -> bool:
        """Whether the source should be read now."""
        return self.store.wanted

    @property
    def healthy(self) -> bool:
        """Whether the source's outputs are usable now."""
        return self._source.healthy

    def holds(self, identity: SourceIdentity) -> bool:
        """Return whether the source has claimed that device."""
        return self._device is not None and self._device.is_same_device(identity)

    def claim(self, identity: SourceIdentity) -> None:
        """Claim the device for this source until `release` is called.

        If the source read another device before, its uncombined output is discarded.

        Raises:
            SourceRejected: another source already reads the device.
        """
        holder = self._supply.holder_of(identity)
        if holder is not None and holder is not self:
            raise SourceRejected(
                f"source {holder.name} already reads {identity.path}",
                hint="Configure each device only once: two names for one device are not two sources.",
            )
        if self._device and not self.holds(identity):
            self.wipe()
        self._device = identity

    def release(self) -> None:
        """Release the device; discard the source's uncombined output."""
        self._device = None
        self.wipe()

    def wipe(self) -> None:
        """Discard uncombined output after the source failed."""
        if self.store is not self._supply.reservoir:
            self._supply.discard_from(self.store)
            self.wake_if_turned()

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    def condemn(self, twin: "SourceDepot") -> None:
        """Fail the source permanently, because `twin` delivered the same output."""
        self._source.condemn(f"output equal to that of source {twin.name}: both are the same source")

    def assess(self, block: TestedBlock) -> None:
        """Count a block that passed the health tests."""
        self._supply.assess(block.assessed)

    def deposit(self, output: FullEntropy) -> None:
        """Store conditioned outputs; discard and count those that do not fit."""
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
        """Accept another process's output; count `spoilt_bytes` more as lost."""
        self._supply.assess(assessed)
        self._supply.divert(spoilt_bytes)
        if len(output):
            self.deposit(output)

    def divert(self, output: FullEntropy) -> None:
        """Count an output that was used for a test."""
        self._supply.divert(len(output))

    def wake_if_turned(self) -> None:
        """Wake the source if `wanted` changed."""
        if self.wanted is not self._was_wanted:
            self._was_wanted = self.wanted
            self._source.wake()


def no_source_hint(sources: Iterable[Source]) -> str:
    """Return a hint for when too few sources are healthy."""
    paused = [source.name for source in sources if source.report().paused]
    if paused:
        return f"{paused[0]} is paused. Run 'drawwell onerng resume {paused[0]}' on the broker's machine."
    return "Run 'drawwell doctor' on the broker's machine."
