"""No matter what the other end of a deposit says: it parses, or raises RemoteProtocolError; whole or byte by byte."""

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import RemoteProtocolError
from drawwell.reports import Firmware, HealthTestReport, SourceIdentity, SourceReport, SourceState
from drawwell.wire import limits
from drawwell.wire.deposit import Depositor, Depository, Stage
from drawwell.wire.deposit_frames import Anew, Deposit, SourceStatus, Want
from drawwell.wire.frames import Bye, Call, Frame, Hello, Refusal, Result

KINDS = (Hello, SourceStatus, Deposit, Want, Anew, Call, Result, Refusal, Bye)
LARGEST = limits.HEADER_BYTES + max(kind.MAX_BYTES for kind in KINDS)
COUNTS = st.integers(0, 2**63 - 1)
RATES = st.floats(0, 1e12, allow_nan=False)


def of(kind: type, **given_fields) -> st.SearchStrategy:
    """Any report of that kind whose texts need no cutting."""
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
    statuses, deposits, deposits, st.builds(Want, st.booleans()), st.just(Anew()), st.builds(Bye, names),
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
    """A broker's end that has taken a healthy source, with two commands and a word unanswered."""
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
    """A source's end that was taken."""
    end = Depositor()
    end.offer("x", HEALTHY)
    end.receive_data(Want(True).encode())
    end.next_event()
    return end


def listen(end: Depository | Depositor, chunks: list[bytes]) -> list[Frame | str]:
    """Feed the chunks; return what was understood, and the error if there was one."""
    heard: list[Frame | str] = []
    for chunk in chunks:
        end.receive_data(chunk)
        try:
            while (event := end.next_event()) is not None:
                heard.append(event)
                if end.stage is Stage.OFFERED and isinstance(end, Depository):
                    end.accept(wanted=False)
        except RemoteProtocolError as error:
            heard.append(str(error))
        assert end.unparsed_bytes < LARGEST
        assert end.open_requests <= limits.MAX_OPEN_REQUESTS
    return heard


@given(st.one_of(statuses, deposits))
def test_every_frame_reads_back_as_itself(frame: Frame) -> None:
    """Encoding and decoding are each other's inverse, for reports within their bounds."""
    assert type(frame).decode(frame.encode()[limits.HEADER_BYTES :]) == frame


@given(reports, st.text(max_size=2000), st.text(max_size=400))
def test_whatever_a_source_has_to_say_is_cut_to_what_a_broker_takes(
    report: SourceReport, error: str, detail: str
) -> None:
    """A report with texts of any length and any character can be sent, and is understood."""
    said = replace(report, last_error=error, identity=replace(report.identity, firmware_detail=detail))
    heard = SourceStatus.decode(SourceStatus(said).encode()[limits.HEADER_BYTES :]).report
    assert heard.identity.name == report.identity.name
    assert heard.last_error.isprintable()
    assert heard.identity.firmware_detail.isascii()


@given(garbage)
def test_the_broker_hears_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """Any bytes at all give the same events and the same error, with bounded memory, and nothing else is raised."""
    assert listen(open_broker(), [data]) == listen(open_broker(), [bytes((byte,)) for byte in data])


@given(garbage)
def test_the_source_hears_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """A hostile broker can do no more than be dropped."""
    assert listen(open_source(), [data]) == listen(open_source(), [bytes((byte,)) for byte in data])


@given(garbage)
def test_the_first_words_are_heard_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """Whoever comes is parsed with the same care before he is taken."""
    assert listen(Depository(), [data]) == listen(Depository(), [bytes((byte,)) for byte in data])
