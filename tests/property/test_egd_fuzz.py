"""The EGD parser gives the same result for any input, in any chunks."""

from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import RemoteProtocolError
from drawwell.wire.egd import AskLevel, AskProcess, EgdParser, Read, Request, Write

REQUESTS = st.one_of(
    st.just(AskLevel()),
    st.just(AskProcess()),
    st.builds(Read, st.integers(0, 255), st.booleans()),
    st.builds(Write, st.integers(0, 65535), st.binary(max_size=255)),
)
LARGEST_REQUEST_BYTES = 4 + 255


def encoded(request: Request) -> bytes:
    match request:
        case AskLevel():
            return b"\x00"
        case Read(n_bytes, waits):
            return bytes((0x02 if waits else 0x01, n_bytes))
        case Write(bits, data):
            return b"\x03" + bits.to_bytes(2, "big") + bytes((len(data),)) + data
        case _:
            return b"\x04"


def parsed(pieces: list[bytes]) -> tuple[list[Request], str, int]:
    """Return the parsed requests, the error, and the remaining bytes."""
    parser, found = EgdParser(), []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (request := parser.next_request()) is not None:
                found.append(request)
    except RemoteProtocolError as error:
        return found, str(error), 0
    return found, "", len(parser.unparsed)


@given(st.lists(REQUESTS, max_size=20))
def test_every_request_reads_back(requests: list[Request]) -> None:
    """Requests encoded as in the manual parse to the same values, in order."""
    assert parsed([b"".join(map(encoded, requests))]) == (requests, "", 0)


@given(st.binary(max_size=600))
def test_pieces_do_not_matter(data: bytes) -> None:
    """Any chunks give the same requests and error; the buffer stays small."""
    whole = parsed([data])
    assert parsed([data[i : i + 1] for i in range(len(data))]) == whole
    assert whole[2] < LARGEST_REQUEST_BYTES


@given(st.lists(REQUESTS, max_size=5), st.integers(5, 255), st.binary(max_size=20))
def test_unknown_command_ends_it(requests: list[Request], command: int, after: bytes) -> None:
    """Any command above 4 is an error, after the earlier requests."""
    found, fault, _ = parsed([b"".join(map(encoded, requests)) + bytes((command,)) + after])
    assert found == requests
    assert f"{command:#04x}" in fault


@given(st.binary(min_size=16, max_size=255))
def test_written_bytes_reach_no_text(data: bytes) -> None:
    """No repr contains written bytes."""
    assert repr(data)[2:-1] not in repr(Write(7, data))
