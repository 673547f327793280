"""Any input from a deposit's peer parses or raises RemoteProtocolError."""

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import RemoteProtocolError
from drawwell.reports import Firmware, HealthTestReport, SourceIdentity, SourceReport, SourceState
from drawwell.wire import limits
from drawwell.wire.deposit import Depositor, Depository, Stage
from drawwell.wire.deposit_frames import Deposit, Restart, SourceStatus, Want
from drawwell.wire.frames import Bye, Call, Frame, Hello, Refusal, Result

KINDS = (Hello, SourceStatus, Deposit, Want, Restart, Call, Result, Refusal, Bye)
LARGEST = limits.HEADER_BYTES + max(kind.MAX_BYTES for kind in KINDS)
COUNTS = st.integers(0, 2**63 - 1)
RATES = st.floats(0, 1e12, allow_nan=False)


def of(kind: type, **given_fields) -> st.SearchStrategy:
    """Return any report of this kind with texts within their limits."""
    kinds = {
        str: st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16),
        int: COUNTS, float: RATES, bool: st.booleans(),
    }  # fmt: skip
    return st.builds(
        kind, **{each.name: kinds[each.type] for each in fields(kind) if each.type in kinds} | given_fields
    )


identities = of(SourceIdentity, firmware=st.sampled_from(Firmware))
reports = of(
    SourceReport,
    identity=identities,
    state=st.sampled_from(SourceState),
    tests=st.lists(
        of(HealthTestReport, cutoff_intermittent=st.integers(1, 2**63 - 1)),
        max_size=3,
        unique_by=lambda test: (test.name, test.unit),
    ).map(tuple),
)
names = st.text(st.characters(categories=["L", "N"]), max_size=20)
ids = st.integers(1, 3)
documents = st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)
deposits = st.builds(
    Deposit,
    st.integers(0, 5000),
    st.integers(0, 3).map(lambda count: 64 * count),
    st.integers(0, 3).map(lambda count: bytearray(b"e" * 64 * count)),
)
statuses = st.builds(SourceStatus, reports)
frames = st.one_of(
    statuses, deposits, deposits, st.builds(Want, st.booleans()), st.just(Restart()), st.builds(Bye, names),
    st.builds(Hello, st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple), names),
    st.builds(Call, ids, names, documents), st.builds(Result, ids, documents),
    st.builds(Refusal, st.integers(0, 3), st.integers(1, 16), names, names),
)  # fmt: skip
headers = st.sampled_from(KINDS).flatmap(
    lambda kind: st.integers(0, kind.MAX_BYTES + 3).map(
        lambda length: bytes((kind.TYPE,)) + length.to_bytes(3, "big")
    )
)
garbage = st.lists(
    st.one_of(frames.map(lambda frame: frame.encode()), headers, st.binary(max_size=40)), max_size=8
).map(b"".join)
HEALTHY = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/stick"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


def open_broker() -> Depository:
    """Return a broker's side with a source, two open calls and a restart."""
    end = Depository()
    end.receive_data(Depositor().offer("x", HEALTHY))
    while end.next_event():
        pass
    end.accept(wanted=True)
    end.call("info", {})
    end.call("test", {})
    end.restart()
    return end


def open_source() -> Depositor:
    """Return the side of an accepted source."""
    end = Depositor()
    end.offer("x", HEALTHY)
    end.receive_data(Want(True).encode())
    end.next_event()
    return end


def listen(end: Depository | Depositor, chunks: list[bytes]) -> list[Frame | str]:
    """Feed the chunks; return the parsed frames, and the error if any."""
    parsed: list[Frame | str] = []
    for chunk in chunks:
        end.receive_data(chunk)
        try:
            while (event := end.next_event()) is not None:
                parsed.append(event)
                if end.stage is Stage.OFFERED and isinstance(end, Depository):
                    end.accept(wanted=False)
        except RemoteProtocolError as error:
            parsed.append(str(error))
        assert end.unparsed_bytes < LARGEST
        assert end.open_requests <= limits.MAX_OPEN_REQUESTS
    return parsed


@given(st.one_of(statuses, deposits))
def test_every_frame_reads_back_as_itself(frame: Frame) -> None:
    """Encoding and decoding are inverse for valid reports."""
    assert type(frame).decode(frame.encode()[limits.HEADER_BYTES :]) == frame


@given(reports, st.text(max_size=2000), st.text(max_size=400))
def test_any_report_is_truncated_to_what_a_broker_takes(
    report: SourceReport, error: str, detail: str
) -> None:
    """A report with texts of any length and characters can be sent and parsed."""
    said = replace(report, last_error=error, identity=replace(report.identity, firmware_detail=detail))
    parsed = SourceStatus.decode(SourceStatus(said).encode()[limits.HEADER_BYTES :]).report
    assert parsed.identity.name == report.identity.name
    assert parsed.last_error.isprintable()
    assert parsed.identity.firmware_detail.isascii()


@given(garbage)
def test_the_broker_parses_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """Any bytes give the same events and error, with bounded memory."""
    assert listen(open_broker(), [data]) == listen(open_broker(), [bytes((byte,)) for byte in data])


@given(garbage)
def test_the_source_parses_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """A hostile broker can only be disconnected."""
    assert listen(open_source(), [data]) == listen(open_source(), [bytes((byte,)) for byte in data])


@given(garbage)
def test_the_first_frames_parse_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """A source's first frames are parsed with the same care."""
    assert listen(Depository(), [data]) == listen(Depository(), [bytes((byte,)) for byte in data])
