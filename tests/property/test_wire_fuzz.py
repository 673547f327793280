"""Any input from a peer parses or raises RemoteProtocolError."""

from hypothesis import example, given
from hypothesis import strategies as st

from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import RemoteProtocolError
from drawwell.wire import limits
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.session import ClientSession, ServerSession, State

KINDS = (Hello, Welcome, Draw, Granted, Refusal, Call, Result, Bye)
LARGEST = limits.HEADER_BYTES + max(kind.MAX_BYTES for kind in KINDS)

names = st.text(st.characters(categories=["L", "N"]), max_size=20)
ids = st.integers(1, 2**32 - 1)
classes = st.sampled_from(DrawClass)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
patiences = st.integers(0, 60_000).map(lambda milliseconds: milliseconds / 1000)
documents = st.dictionaries(st.text(max_size=5), values, max_size=3)
draws = st.builds(
    Draw, st.integers(1, 65536), classes, st.booleans(), st.booleans(), patiences, request_id=ids
)
receipts = st.just((b"", b"")) | st.tuples(
    st.binary(min_size=1, max_size=60).map(lambda text: text.replace(b"\n", b" ")),
    st.binary(min_size=32, max_size=32),
)
single = st.builds(
    lambda number, serial, draw_class, data, receipt: Granted(data, serial, draw_class, *receipt, request_id=number),
    ids, st.integers(0, 2**64 - 1), classes, st.binary(min_size=1, max_size=100), receipts,
)  # fmt: skip
lines = st.binary(min_size=1, max_size=60).filter(lambda line: b"\n" not in line)
mixtures = st.integers(2, limits.MAX_MIXED).flatmap(
    lambda count: st.builds(
        lambda number, texts, n_bytes, key: Granted(
            key[:n_bytes], 1, DrawClass.FULL, b"\n".join(texts),
            (key * count)[: count * limits.RECEIPT_KEY_BYTES + (count - 1) * n_bytes], request_id=number,
        ),
        ids, st.lists(lines, min_size=count, max_size=count), st.integers(1, 100),
        st.binary(min_size=200, max_size=200),
    )
)  # fmt: skip
grants = single | mixtures
refusals = st.one_of(
    st.builds(Refusal, ids, st.integers(1, 14), names, names),
    st.builds(Refusal, ids, st.integers(1, 14), names, names, st.integers(0, 2**64 - 1), st.booleans()),
)
frames = st.one_of(
    st.builds(Hello, st.lists(st.integers(0, 255), min_size=1, max_size=16).map(tuple), names),
    st.builds(Welcome, st.integers(0, 255), names, names, st.integers(1, 65536), st.booleans()),
    draws, grants, refusals, st.builds(Bye, names),
    st.builds(Call, ids, names, documents), st.builds(Result, ids, documents),
)  # fmt: skip
headers = st.sampled_from(KINDS).flatmap(
    lambda kind: st.integers(0, kind.MAX_BYTES + 3).map(
        lambda length: bytes((kind.TYPE,)) + length.to_bytes(3, "big")
    )
)
garbage = st.lists(
    st.one_of(frames.map(lambda frame: frame.encode()), headers, st.binary(max_size=40)), max_size=6
).map(b"".join)


def open_server() -> ServerSession:
    server = ServerSession()
    server.receive_data(Hello((1,)).encode())
    server.next_event()
    server.welcome("attic", "web01")
    return server


def open_client() -> ClientSession:
    client = ClientSession()
    client.hello()
    client.receive_data(Welcome(1, "attic", "web01").encode())
    client.next_event()
    client.draw(DrawRequest(32, DrawClass.FULL))
    client.call("status", {})
    return client


def listen(session: ServerSession | ClientSession, chunks: list[bytes]) -> list[Frame | str]:
    """Feed the chunks; return the parsed frames, and the error if any."""
    parsed: list[Frame | str] = []
    for chunk in chunks:
        session.receive_data(chunk)
        try:
            while (event := session.next_event()) is not None:
                parsed.append(event)
        except RemoteProtocolError as error:
            parsed.append(str(error))
        assert session.unparsed_bytes < LARGEST
        assert session.open_requests <= limits.MAX_OPEN_REQUESTS
    return parsed


@given(frames)
def test_every_frame_reads_back_as_itself(frame: Frame) -> None:
    """Encoding and decoding are inverse."""
    data = frame.encode()
    assert type(frame).decode(data[limits.HEADER_BYTES :]) == frame


@given(garbage)
@example(Draw(1, DrawClass.FULL, request_id=1).encode() * 2)
@example(b"".join(Draw(1, DrawClass.FULL, request_id=n).encode() for n in range(1, 70)))
def test_broker_parses_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """Any bytes give the same events and error, with bounded memory."""
    whole = listen(open_server(), [data])
    single = listen(open_server(), [bytes((byte,)) for byte in data])

    assert whole == single


@given(garbage)
@example(Granted(b"x" * 32, 1, DrawClass.FULL, request_id=1).encode() + Refusal(2, 5).encode())
def test_client_parses_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """A hostile broker can only be disconnected."""
    whole = listen(open_client(), [data])
    single = listen(open_client(), [bytes((byte,)) for byte in data])

    assert whole == single


@given(garbage)
def test_greeting_parses_the_same_whole_and_byte_by_byte(data: bytes) -> None:
    """An unknown peer's first bytes are parsed with the same care."""
    whole, single = ServerSession(), ServerSession()

    assert listen(whole, [data]) == listen(single, [bytes((byte,)) for byte in data])
    assert whole.state is single.state


@given(st.binary(max_size=200), st.integers(1, 7))
def test_broken_session_stays_broken(data: bytes, size: int) -> None:
    """After an error, input is neither parsed nor stored."""
    server = open_server()
    server.receive_data(b"\x00")
    assert len(listen(server, [b"\x00"])) == 1

    assert listen(server, [data[at : at + size] for at in range(0, len(data), size)]) == []
    assert (server.state, server.unparsed_bytes) == (State.BROKEN, 0)
