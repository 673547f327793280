"""Both ends of a deposit connection: commands, refusals, violations."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from drawwell.errors import LocalProtocolError, RemoteProtocolError, SourceUnavailable, UsageError
from drawwell.reports import HealthTestReport, SourceIdentity, SourceReport, SourceState, as_json
from drawwell.wire import limits
from drawwell.wire.deposit import Depositor, Depository, Stage
from drawwell.wire.deposit_frames import Deposit, Restart, SourceStatus, Want
from drawwell.wire.frames import Bye, Call, Frame, Hello, Refusal, Result, put_json

REPORT = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/stick"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip
RESTARTED = Restart()


TEST = {
    "name": "repetition count", "unit": "sample", "min_entropy": 6.0, "window": 0,
    "cutoff_intermittent": 11, "cutoff_permanent": 21, "worst_count": 4, "failures": 0,
}  # fmt: skip


def pair() -> tuple[Depository, Depositor]:
    """Return both ends of an open connection."""
    broker, source = Depository(), Depositor()
    broker.receive_data(source.offer("test", REPORT))
    assert [type(frame) for frame in events(broker)] == [Hello, SourceStatus]
    source.receive_data(broker.accept(wanted=True))
    assert events(source) == [Want(wanted=True)]
    return broker, source


def events(end: Depository | Depositor) -> list[Frame]:
    return list(iter(end.next_event, None))


def test_a_command_has_one_answer() -> None:
    """A result or a refusal completes each command on both sides."""
    broker, source = pair()
    for answer in (
        lambda number: source.result(number, {"led": "off"}),
        lambda number: source.refuse(number, SourceUnavailable("it is gone")),
    ):
        number, data = broker.call("info", {"a": 1})
        source.receive_data(data)
        assert events(source) == [Call(number, "info", {"a": 1})]
        assert (broker.open_requests, source.open_requests) == (1, 1)

        broker.receive_data(answer(number))
        (event,) = events(broker)
        assert isinstance(event, Result | Refusal)
        assert (broker.open_requests, source.open_requests) == (0, 0)


def test_commands_are_bounded_on_both_ends() -> None:
    """Neither side sends or accepts too many open commands."""
    broker, source = pair()
    calls = [broker.call("info", {})[1] for _ in range(limits.MAX_OPEN_REQUESTS)]
    with pytest.raises(UsageError, match="too many commands"):
        broker.call("info", {})

    source.receive_data(b"".join(calls))
    assert len(events(source)) == limits.MAX_OPEN_REQUESTS
    source.receive_data(Call(limits.MAX_REQUEST_ID, "info", {}).encode())
    with pytest.raises(RemoteProtocolError, match="too many commands"):
        source.next_event()


@pytest.mark.parametrize(
    "frame",
    [
        RESTARTED,
        Result(1, {}),
        Refusal(1, 1, "no", ""),
        Deposit(575, 0, bytes(64)),
        Deposit(1152, 64, bytes(128)),
        Want(wanted=True),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_a_source_that_breaks_a_rule_is_cut_off(frame: Frame) -> None:
    """An unexpected answer, too few bits or a broker's frame ends it."""
    broker, _ = pair()
    broker.receive_data(frame.encode())
    with pytest.raises(RemoteProtocolError):
        broker.next_event()
    assert broker.stage is Stage.OVER
    broker.receive_data(SourceStatus(REPORT).encode())
    assert (broker.next_event(), broker.unparsed_bytes) == (None, 0)


def test_a_source_of_an_earlier_version_is_understood() -> None:
    """A report without recent counts is accepted; they count as 0."""
    test = HealthTestReport("repeat", "byte", 6.0, 0, 11, 21, 4, 1, 3)
    document = as_json(replace(REPORT, tests=(test,)))
    del document["tests"][0]["recent_count"]
    status = SourceStatus.decode(put_json(document))
    assert status.report.tests == (replace(test, recent_count=0),)


def test_a_refusal_needs_a_known_code() -> None:
    """A source's refusal must have a code of the protocol."""
    broker, _ = pair()
    number, _ = broker.call("info", {})
    broker.receive_data(Refusal(number, 255, "no", "").encode())
    with pytest.raises(RemoteProtocolError, match="unknown code 255"):
        broker.next_event()


@pytest.mark.parametrize("frame", [Refusal(3, 1, "no", ""), Refusal(limits.SESSION_ID, 255, "no", "")])
def test_a_broker_refuses_the_connection_only(frame: Frame) -> None:
    """A broker's refusal has the session's ID and a known code."""
    _, source = pair()
    source.receive_data(frame.encode())
    with pytest.raises(RemoteProtocolError, match="an invalid refusal"):
        source.next_event()


def test_a_refused_source_is_given_the_reason() -> None:
    """The refusal is the last frame on both sides."""
    broker, source = Depository(), Depositor()
    broker.receive_data(source.offer("test", REPORT))
    events(broker)
    source.receive_data(broker.refuse(UsageError("a source of that name deposits here already")))

    (refusal,) = events(source)
    assert isinstance(refusal, Refusal)
    assert refusal.message == "a source of that name deposits here already"
    assert broker.stage is source.stage is Stage.OVER


def test_versions_must_match() -> None:
    """A source without a common version is disconnected."""
    broker = Depository()
    broker.receive_data(Hello((99,), "test").encode())
    with pytest.raises(RemoteProtocolError, match="no common version"):
        broker.next_event()


def test_deposits_after_a_restart_are_counted_and_wiped() -> None:
    """Until the source confirms the restart, its deposits count as spoilt."""
    broker, source = pair()
    source.receive_data(broker.restart())
    assert events(source) == [RESTARTED]
    broker.receive_data(source.deposit(576, 0, b"x" * 64))
    (spoilt,) = events(broker)
    assert isinstance(spoilt, Deposit)
    assert (spoilt.assessed_bits, spoilt.spoilt_bytes, len(spoilt.data)) == (576, 64, 0)

    broker.receive_data(source.restarted() + source.deposit(576, 0, b"y" * 64))
    _, deposit = events(broker)
    assert isinstance(deposit, Deposit)
    assert bytes(deposit.data) == b"y" * 64


def test_an_unhealthy_source_deposits_nothing() -> None:
    """A deposit requires that the last report was healthy."""
    broker, source = pair()
    broker.receive_data(source.report(replace(REPORT, state=SourceState.OFF)))
    assert len(events(broker)) == 1
    broker.receive_data(source.deposit(576, 0, bytes(64)))
    with pytest.raises(RemoteProtocolError, match="was not healthy"):
        broker.next_event()


@pytest.mark.parametrize(
    "send",
    [
        lambda: Depository().accept(wanted=True),
        lambda: Depository().want(wanted=True),
        lambda: Depository().restart(),
        lambda: Depository().call("info", {}),
        lambda: Depositor().report(REPORT),
        lambda: Depositor().deposit(576, 0, bytes(64)),
        lambda: Depositor().restarted(),
    ],
)
def test_nothing_is_sent_before_its_time(send: Callable[[], object]) -> None:
    """Frames of an open connection are refused before it is open."""
    with pytest.raises(LocalProtocolError):
        send()


def test_a_bye_ends_both_ends() -> None:
    """After a BYE neither side parses or expects frames."""
    broker, source = pair()
    source.receive_data(broker.bye("it stops"))
    assert events(source) == [Bye("it stops")]
    assert broker.stage is source.stage is Stage.OVER


@pytest.mark.parametrize(
    "frame",
    [
        (Deposit, bytes(16) + bytes(63)),
        (Deposit, bytes(15) + b"\x01"),
        (Want, b"\x02"),
        (SourceStatus, put_json({"name": "stick"})),
    ],
)
def test_a_payload_out_of_form_is_refused(frame: tuple[type[Frame], bytes]) -> None:
    """Outputs are whole, a want is 0 or 1, a report has exactly its fields."""
    kind, payload = frame
    with pytest.raises(ValueError):  # noqa: PT011 - the parser makes the named error of it
        kind.decode(payload)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("raw_bytes", -1),
        ("raw_bytes", True),
        ("paused", 1),
        ("state", "dreaming"),
        ("last_error", "a\nb"),
        ("last_error", "x" * 1025),
        ("tests", 17 * [{}]),
        ("tests", 2 * [TEST]),
        ("tests", [TEST | {"cutoff_intermittent": 0}]),
        ("identity", []),
    ],
)
def test_a_value_out_of_bounds_is_refused(field: str, value: object) -> None:
    """Each value of a report has a type and limits."""
    report = as_json(REPORT)
    assert SourceStatus.decode(put_json(report)).report == REPORT
    with pytest.raises(ValueError):  # noqa: PT011 - the parser makes the named error of it
        SourceStatus.decode(put_json(report | {field: value}))


def test_the_name_in_a_receipt_is_ascii() -> None:
    """Non-ASCII names are refused, and are sent with question marks."""
    report = as_json(REPORT)
    identity = report["identity"] | {"name": "stück"}
    with pytest.raises(ValueError, match="too long"):
        SourceStatus.decode(put_json(report | {"identity": identity}))

    frame = SourceStatus(replace(REPORT, identity=replace(REPORT.identity, name="stück")))
    assert SourceStatus.decode(frame.encode()[limits.HEADER_BYTES :]).report.identity.name == "st?ck"
