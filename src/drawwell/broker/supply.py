"""What sources deposit into and the broker takes from: reservoir and ledger, moved together (law 4)."""

from collections.abc import Callable

from drawwell.entropy.blocks import FullEntropy, TestedBlock
from drawwell.entropy.ledger import Ledger
from drawwell.entropy.reservoir import Reservoir
from drawwell.reports import LedgerReport
from drawwell.units import Bits


class Supply:
    """The reservoir with its account. Whoever wants to know when bytes are wanted leaves a callback."""

    def __init__(self, reservoir: Reservoir) -> None:
        self.reservoir = reservoir
        self._ledger = Ledger()
        self._callers: list[Callable[[], None]] = []
        self._was_wanted = reservoir.wanted
        self.deposited: Callable[[], None] = lambda: None
        """Called whenever bytes came in."""

    @property
    def wanted(self) -> bool:
        """Should the sources be read now?"""
        return self.reservoir.wanted

    def when_wanted(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever the reservoir begins to want bytes, and whenever it has enough."""
        self._callers.append(wake)

    def assess(self, block: TestedBlock) -> None:
        """Count a block that passed the health tests."""
        self._ledger.assess(block.assessed)

    def deposit(self, output: FullEntropy) -> None:
        """Take over one conditioned output; what does not fit is discarded and counted so."""
        size = len(output)
        self._ledger.condition(Bits(8 * size))
        accepted = self.reservoir.put(output)
        self._ledger.discard(Bits(8 * (size - accepted)))
        self.deposited()
        self._tell()

    def take_over(self, assessed: Bits, spoilt_bytes: int, output: FullEntropy) -> None:
        """Take over what was assessed and conditioned elsewhere; nobody gets `spoilt_bytes` of it."""
        self._ledger.assess(assessed)
        self._ledger.condition(Bits(8 * spoilt_bytes))
        self._ledger.discard(Bits(8 * spoilt_bytes))
        if len(output):
            self.deposit(output)

    def divert(self, output: FullEntropy) -> None:
        """Count an output that went to a test instead of the reservoir."""
        self._ledger.condition(Bits(8 * len(output)))
        self._ledger.discard(Bits(8 * len(output)))

    def take(self, n_bytes: int) -> bytearray:
        """Remove `n_bytes` for good; the caller overwrites them after use.

        Raises:
            Starved: the reservoir holds fewer; nothing was taken.
        """
        taken = self.reservoir.take(n_bytes)
        self._ledger.deliver(Bits(8 * n_bytes))
        self._tell()
        return taken

    def wipe(self) -> int:
        """Discard everything; return how many bytes that were."""
        wiped = self.reservoir.wipe()
        self._ledger.discard(Bits(8 * wiped))
        self._tell()
        return wiped

    def count_drbg(self, n_bytes: int) -> None:
        """Count DRBG output, which is never called entropy."""
        self._ledger.drbg(n_bytes)

    def report(self) -> LedgerReport:
        """The account as it stands."""
        return self._ledger.report(len(self.reservoir))

    def _tell(self) -> None:
        if self.reservoir.wanted != self._was_wanted:
            self._was_wanted = self.reservoir.wanted
            for wake in self._callers:
                wake()
