"""Any history of a source: failed blocks are dropped, latches hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drawwell.entropy.blocks import RawBlock
from drawwell.entropy.cutoffs import STARTUP_SAMPLES
from drawwell.entropy.health import FAILURE_MEMORY_S, HealthMonitor, NoiseClaim
from drawwell.errors import HealthFailure, IntermittentHealthFailure, PermanentHealthFailure
from drawwell.reports import SourceState
from drawwell.testing.sick import good
from support.examples import examples

SICKNESS = {6: IntermittentHealthFailure, 11: PermanentHealthFailure}


class SourceHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.monitor = HealthMonitor(NoiseClaim(), hash_key=bytes(32))
        self.source = good()
        self.now = 0.0
        self.passed = 0  # good samples since the start-up tests began
        self.latched = False
        self.epoch = 0
        self.intermittent: list[float] = []

    def feed(self, samples: bytes):
        try:
            return self.monitor.feed(RawBlock(samples), self.now)
        except HealthFailure as failure:
            return failure

    @rule()
    def start(self) -> None:
        self.monitor.start()
        self.passed = 0

    @rule()
    def stop(self) -> None:
        self.monitor.stop()

    @rule()
    def reset(self) -> None:
        was_latched, self.latched = self.latched, False
        self.monitor.reset()
        self.passed = 0
        if was_latched:
            self.intermittent = []
            assert self.monitor.state is SourceState.OFF

    @rule(seconds=st.sampled_from([1.0, 250.0, 601.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.monitor.state is not SourceState.OFF)
    @rule(n=st.sampled_from([1, 64, 1000, 4095, 4096]))
    def feed_good(self, n: int) -> None:
        was_healthy = self.monitor.state is SourceState.HEALTHY
        samples = self.source.read(n)
        result = self.feed(samples)
        if self.latched:
            assert type(result) is PermanentHealthFailure
        elif was_healthy:
            assert (result.data, result.assessed) == (samples, 6 * n)
        else:
            self.passed += n
            assert result is None
            assert (self.monitor.state is SourceState.HEALTHY) == (self.passed >= STARTUP_SAMPLES)
            self.epoch += self.passed >= STARTUP_SAMPLES

    @precondition(lambda self: self.monitor.state is not SourceState.OFF)
    @rule(run=st.sampled_from([6, 11]), head=st.integers(0, 40))
    def feed_sick(self, run: int, head: int) -> None:
        result = self.feed(self.source.read(head) + b"\0" + b"\x5a" * run + b"\1")
        self.passed = 0
        if run == 6 and not self.latched:
            self.intermittent.append(self.now)
        recent = [at for at in self.intermittent if self.now - at <= FAILURE_MEMORY_S]
        self.latched = self.latched or run == 11 or len(recent) >= 3
        assert type(result) is (PermanentHealthFailure if self.latched else IntermittentHealthFailure)

    @invariant()
    def latch_and_epoch_hold(self) -> None:
        assert (self.monitor.state is SourceState.PERMANENT_FAILURE) == self.latched
        assert self.monitor.epoch == self.epoch


SourceHistory.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestSourceHistory = SourceHistory.TestCase
