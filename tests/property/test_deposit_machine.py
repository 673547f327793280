"""A reservoir filled by other processes, some lying, and a model."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from drawwell.broker.remote_sources import RemoteSources
from drawwell.errors import RemoteProtocolError, Starved
from drawwell.reports import SourceIdentity, SourceReport, SourceState
from drawwell.wire.deposit import Depositor, Depository, Stage
from drawwell.wire.deposit_frames import Deposit, Restart, SourceStatus
from drawwell.wire.frames import Frame
from support.examples import examples
from support.workbench import Workbench

CAPACITY = 512
HEALTHY = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/stick"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


class Bench(Workbench):
    """A workbench without passing time."""

    def clock(self) -> float:
        return 0.0


class Connection:
    """A connection without a socket, with the door's event handling."""

    def __init__(self, reception: RemoteSources, name: str) -> None:
        self._reception = reception
        self._session = Depository()
        self.source = None
        self.sends(
            Depositor().offer("x", replace(HEALTHY, identity=SourceIdentity(name, "onerng", f"/dev/{name}")))
        )
        self.source = reception.arrive(self, self._report)
        self._session.accept(wanted=self.source.wanted)

    @property
    def restarting(self) -> bool:
        return self._session.restarting

    def want(self, *, wanted: bool) -> None:
        if self._session.stage is Stage.OPEN:
            self._session.want(wanted=wanted)

    def restart(self) -> None:
        self._session.restart()

    def sends(self, *said: Frame | bytes) -> bool:
        """Send from the source; return False if this violated the rules."""
        self._session.receive_data(
            b"".join(each if isinstance(each, bytes) else each.encode() for each in said)
        )
        try:
            while (event := self._session.next_event()) is not None:
                if isinstance(event, Deposit):
                    self.source.take(event)
                elif isinstance(event, SourceStatus):
                    self._report = event.report
                    if self.source:
                        self.source.update(event.report)
        except RemoteProtocolError:
            return False
        return True


class DepositMachine(RuleBasedStateMachine):
    """All deposited bytes are distinct, so that repeats are detected."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(capacity_bytes=CAPACITY)
        self.reception = RemoteSources(self.bench.broker, self.bench.supply)
        self.here: dict[str, Connection] = {}
        self.worth: dict[str, int] = {}
        self.healthy: dict[str, bool] = {}
        self.restarts: dict[str, int] = {}
        self.counter = 0
        self.model: list[int] = []
        self.assessed = self.conditioned = self.served = 0

    @rule(name=st.sampled_from(["one", "two", "three"]))
    def a_source_comes(self, name: str) -> None:
        if name not in self.here:
            self.here[name] = Connection(self.reception, name)
            self.worth[name], self.healthy[name], self.restarts[name] = 0, True, 0

    @rule(name=st.sampled_from(["one", "two", "three"]))
    def a_source_goes(self, name: str) -> None:
        if name in self.here:
            self.here.pop(name).source.leave("it was killed")

    @rule(name=st.sampled_from(["one", "two", "three"]), state=st.sampled_from(SourceState))
    def a_source_reports(self, name: str, state: SourceState) -> None:
        if name in self.here:
            report = replace(self.here[name].source.report(), state=state)
            assert self.here[name].sends(SourceStatus(report))
            self.healthy[name] = state is SourceState.HEALTHY

    @rule(
        name=st.sampled_from(["one", "two", "three"]),
        assessed=st.integers(0, 3000),
        spoilt=st.integers(0, 2),
        count=st.integers(0, 4),
    )
    def a_source_deposits(self, name: str, assessed: int, spoilt: int, count: int) -> None:
        if name not in self.here:
            return
        marks = list(range(self.counter, self.counter + count))
        self.counter += count
        data = b"".join(mark.to_bytes(4, "big") * 16 for mark in marks)
        taken = self.here[name].sends(Deposit(assessed, 64 * spoilt, data))
        needed = 576 * (spoilt + count)
        assert taken == (self.worth[name] + assessed >= needed and (self.healthy[name] or not count))
        if not taken:
            self.here.pop(name).source.leave("it lied")
            return
        self.worth[name] += assessed - needed
        self.assessed += assessed
        self.conditioned += 512 * (spoilt + count)
        if not self.restarts[name]:
            self.model += marks[: (CAPACITY - 64 * len(self.model)) // 64]

    @rule()
    def the_broker_restarts_all(self) -> None:
        self.bench.supply.wipe()
        self.model.clear()
        for name, connection in self.here.items():
            connection.source.restart()
            self.restarts[name] += 1
            assert not connection.source.healthy

    @rule(name=st.sampled_from(["one", "two", "three"]))
    def a_source_has_restarted(self, name: str) -> None:
        if name in self.here:
            assert self.here[name].sends(Restart()) == (self.restarts[name] > 0)
            if not self.restarts[name]:
                self.here.pop(name).source.leave("it lied")
            else:
                self.restarts[name] -= 1

    @rule(count=st.integers(0, 8))
    def bytes_are_taken(self, count: int) -> None:
        try:
            taken = bytes(self.bench.supply.take(64 * count).data)
        except Starved:
            assert count > len(self.model)
            return
        expected, self.model = self.model[:count], self.model[count:]
        assert taken == b"".join(mark.to_bytes(4, "big") * 16 for mark in expected)
        self.served += 64 * count

    @invariant()
    def the_account_is_that_of_the_model(self) -> None:
        ledger = self.bench.supply.report()
        assert ledger.balanced
        assert (ledger.assessed_bits, ledger.conditioned_bits) == (self.assessed, self.conditioned)
        assert ledger.delivered_bits == 8 * self.served
        assert ledger.delivered_bits <= ledger.conditioned_bits <= ledger.assessed_bits * 512 // 576
        assert len(self.bench.supply.reservoir) == 64 * len(self.model)

    @invariant()
    def counted_sources_are_here_and_healthy_and_not_restarting(self) -> None:
        counted = {name for name in self.here if self.healthy[name] and not self.restarts[name]}
        found = {name for name, source in self.bench.broker.sources.items() if source.healthy}
        assert found == counted


DepositMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestDepositMachine = DepositMachine.TestCase
