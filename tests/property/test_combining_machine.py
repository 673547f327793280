"""Lanes, reservoir and ledger, for three sources combined in pairs."""

import random
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drawwell.broker.supply import Supply
from drawwell.entropy.blocks import FullEntropy, NoiseOrigin, Origins
from drawwell.entropy.combining import LANE_BYTES, OUTPUT_BYTES
from drawwell.entropy.reservoir import Reservoir
from drawwell.reports import SourceIdentity
from drawwell.units import Bits
from support.examples import examples

NAMES = st.sampled_from("abc")
FEW = st.integers(1, 6)


class FakeSource:
    """A source with a health state set by the test."""

    def __init__(self, name: str, supply: Supply) -> None:
        self.name = name
        self.healthy = True
        self.wakes = 0
        self.origin = NoiseOrigin(SourceIdentity(name, "scripted", f"/dev/{name}"), 1)
        self.depot = supply.depot(self)

    def wake(self) -> None:
        self.wakes += 1

    def condemn(self, why: str) -> None:
        self.healthy = False
        self.depot.wipe()


class CombiningMachine(RuleBasedStateMachine):
    """Outputs are unique, so an XOR shows which two were combined."""

    def __init__(self) -> None:
        super().__init__()
        self.supply = Supply(Reservoir(512, low_mark=128, high_mark=384), 2)
        self.sources = {name: FakeSource(name, self.supply) for name in "abc"}
        self.random = random.Random(1)
        self.numbers = count()
        self.given: dict[int, tuple[int, Origins]] = {}
        self.pairs: dict[int, tuple[int, int]] = {}
        self.used: set[int] = set()

    @rule(name=NAMES, n=FEW)
    def a_source_deposits(self, name: str, n: int) -> None:
        source = self.sources[name]
        data = b"".join(self._new(source) for _ in range(n))
        source.depot.take_over(Bits(576 * n), 0, FullEntropy(bytearray(data)))

    @rule(name=NAMES)
    def a_source_deposits_more_than_its_lane_holds(self, name: str) -> None:
        source = self.sources[name]
        n = LANE_BYTES // OUTPUT_BYTES + 1
        data = self.random.randbytes(OUTPUT_BYTES * n)
        healthy, source.healthy = source.healthy, True
        source.depot.take_over(Bits(576 * n), 0, FullEntropy(bytearray(data)))
        assert not source.depot.wanted
        source.healthy = healthy
        source.depot.wipe()
        self.supply.wipe()
        self.given.clear()

    @rule(name=NAMES, n=FEW)
    def a_source_loses_some(self, name: str, n: int) -> None:
        self.sources[name].depot.take_over(Bits(576 * n), 64 * n, FullEntropy(bytearray()))

    @rule(name=NAMES)
    def a_source_fails(self, name: str) -> None:
        self.sources[name].condemn("it failed")

    @rule(name=NAMES)
    def a_source_recovers(self, name: str) -> None:
        self.sources[name].healthy = True

    @precondition(lambda self: self.given)
    @rule(name=NAMES, data=st.data())
    def a_source_repeats_another(self, name: str, data: st.DataObject) -> None:
        """Both sources fail, and none of their waiting outputs is used."""
        number = data.draw(st.sampled_from(sorted(self.given)))
        output, origins = self.given[number]
        source = self.sources[name]
        if source.origin in origins:
            return
        source.depot.take_over(Bits(576), 0, FullEntropy(bytearray(output.to_bytes(OUTPUT_BYTES))))
        twin = next(each for each in self.sources.values() if each.origin in origins)
        assert not source.healthy
        assert not twin.healthy
        assert len(self.supply.reservoir) == 0

    @rule(n=FEW)
    def bytes_are_taken(self, n: int) -> None:
        n = min(n, len(self.supply.reservoir) // OUTPUT_BYTES)
        for _ in range(n):
            taken = self.supply.take(OUTPUT_BYTES)
            parts = self.pairs[int.from_bytes(taken.data)]
            origins = self.given[parts[0]][1] | self.given[parts[1]][1]
            assert taken.origins == origins
            assert len(origins) == 2
            assert not self.used & set(parts), "an output was used twice"
            self.used |= set(parts)

    @rule()
    def everything_is_wiped(self) -> None:
        self.supply.wipe()
        assert self.supply.report().in_lanes_bits == self.supply.report().in_reservoir_bits == 0

    @invariant()
    def the_account_balances(self) -> None:
        report = self.supply.report()
        assert report.balanced
        assert report.conditioned_bits == (
            report.delivered_bits
            + report.discarded_bits
            + report.combined_bits
            + report.in_lanes_bits
            + report.in_reservoir_bits
        )
        assert report.delivered_bits <= report.combined_bits

    @invariant()
    def the_lane_of_a_failed_source_is_empty(self) -> None:
        assert not any(len(each.depot.store) for each in self.sources.values() if not each.healthy)

    @invariant()
    def no_pair_waits_while_the_reservoir_has_room(self) -> None:
        lanes = [len(each.depot.store) for each in self.sources.values()]
        assert not self.supply.wanted or sum(map(bool, lanes)) < 2

    def _new(self, source: FakeSource) -> bytes:
        """Create an output; record its XOR with every output of another source."""
        value, number = self.random.getrandbits(512), next(self.numbers)
        for other, (theirs, origins) in self.given.items():
            if source.origin not in origins:
                self.pairs[value ^ theirs] = other, number
        self.given[number] = value, frozenset({source.origin})
        return value.to_bytes(OUTPUT_BYTES)


CombiningMachine.TestCase.settings = settings(
    max_examples=examples(40), stateful_step_count=40, deadline=None
)
TestCombiningMachine = CombiningMachine.TestCase
