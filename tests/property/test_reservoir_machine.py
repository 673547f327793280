"""Reservoir and ledger for any history, compared with a list."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drawwell.entropy.blocks import FullEntropy
from drawwell.entropy.ledger import Ledger
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import Starved
from drawwell.units import Bits
from support.examples import examples

CAPACITY = 96


class ReservoirMachine(RuleBasedStateMachine):
    """Every byte is a new number, so that repeats are detected."""

    def __init__(self) -> None:
        super().__init__()
        self.reservoir = Reservoir(CAPACITY, low_mark=20, high_mark=70)
        self.ledger = Ledger()
        self.model: list[int] = []
        self.served: list[int] = []
        self.pending = Bits(0)
        self.counter = 0

    @rule(bits=st.integers(0, 2000))
    def samples_are_assessed(self, bits: int) -> None:
        self.ledger.assess(Bits(bits))
        self.pending = Bits(self.pending + bits)

    @precondition(lambda self: self.pending >= 576)
    @rule(size=st.integers(0, 64))
    def block_is_conditioned_and_put(self, size: int) -> None:
        """Like the conditioner, put at most 64 bytes per 576 assessed bits."""
        data = [self.counter + i for i in range(size)]
        self.counter += size
        self.pending = Bits(self.pending - 576)
        block = FullEntropy(bytearray(number % 255 + 1 for number in data))
        self.ledger.condition(Bits(8 * size))
        accepted = self.reservoir.put(block)
        self.ledger.discard(Bits(8 * (size - accepted)))
        assert accepted == min(size, CAPACITY - len(self.model))
        assert not any(block.data)
        self.model += data[:accepted]

    @precondition(lambda self: self.pending > 0)
    @rule()
    def conditioner_drops_its_pending_input(self) -> None:
        self.pending = Bits(0)

    @rule(n=st.integers(0, CAPACITY))
    def bytes_are_taken(self, n: int) -> None:
        try:
            taken = self.reservoir.take(n).data
        except Starved:
            assert n > len(self.model)
            return
        self.ledger.deliver(Bits(8 * n))
        expected, self.model = self.model[:n], self.model[n:]
        assert list(taken) == [number % 255 + 1 for number in expected]
        self.served += expected

    @rule()
    def reservoir_is_wiped(self) -> None:
        lost = self.reservoir.wipe()
        assert lost == len(self.model)
        self.ledger.discard(Bits(8 * lost))
        self.model.clear()

    @invariant()
    def each_byte_is_served_at_most_once_and_in_order(self) -> None:
        assert self.served == sorted(set(self.served))

    @invariant()
    def only_what_is_held_is_in_memory(self) -> None:
        """No byte is zero at first, so every zero was taken."""
        ring = bytes(self.reservoir._ring)
        assert sum(byte != 0 for byte in ring) == len(self.model) == len(self.reservoir)
        assert self.reservoir.free_bytes == CAPACITY - len(self.model)

    @invariant()
    def the_account_balances(self) -> None:
        report = self.ledger.report(len(self.reservoir))
        assert report.balanced
        assert report.delivered_bits <= report.conditioned_bits <= report.assessed_bits

    @invariant()
    def it_wants_when_it_is_low_and_not_when_it_is_high(self) -> None:
        if len(self.model) < 20:
            assert self.reservoir.wanted
        if len(self.model) >= 70:
            assert not self.reservoir.wanted


ReservoirMachine.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
TestReservoirMachine = ReservoirMachine.TestCase
