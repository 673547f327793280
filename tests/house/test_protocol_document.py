"""docs/protocol.md agrees with the code."""

import re
from pathlib import Path

import pytest

from drawwell.crypto import receipt_form
from drawwell.crypto.drbg import Drbg
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.verbs import CONTROL_VERBS, Audience
from drawwell.wire import limits
from drawwell.wire.deposit import FROM_BROKER, FROM_SOURCE
from drawwell.wire.deposit_frames import Deposit, Restart, SourceStatus, Want
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.refusals import REFUSAL_CODES
from drawwell.wire.session import SENDS, ClientSession, ServerSession, Side, State

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
FRAMES: dict[str, type[Frame]] = {
    "HELLO": Hello, "WELCOME": Welcome, "DRAW": Draw, "GRANT": Granted, "REFUSED": Refusal, "CALL": Call,
    "RESULT": Result, "BYE": Bye,
}  # fmt: skip


def rows(section: str) -> list[list[str]]:
    """Return the cells of the tables in one section, without headers."""
    body = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    (found,) = [part for part in body if part.startswith(section)]
    tables = re.findall(r"(?:^\|.*\n)+", found, flags=re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_limits_are_those_of_the_code() -> None:
    """Section 9 and wire/limits.py have the same figures."""
    written = {name: value for name, value, _ in rows("9.")}
    in_code = {name: str(value) for name, value in vars(limits).items() if name.isupper()}

    assert written == in_code


def test_limits_are_those_of_the_rooms_below() -> None:
    """The protocol's limits fit a receipt and one request of the DRBG."""
    assert limits.MAX_RECEIPT_BYTES == receipt_form.MAX_RECEIPT_BYTES
    assert len(Drbg(bytes(48)).generate(limits.MAX_DRAW_BYTES)) == limits.MAX_DRAW_BYTES
    with pytest.raises(ValueError, match=r"65,?536"):
        Drbg(bytes(48)).generate(limits.MAX_DRAW_BYTES + 1)


def test_frames_are_those_of_the_code() -> None:
    """Types and bounds in section 3 match the classes."""
    written = {name: (int(kind, 16), int(least), int(most)) for name, kind, _, least, most, _ in rows("3.")}
    in_code = {name: (kind.TYPE, kind.MIN_BYTES, kind.MAX_BYTES) for name, kind in FRAMES.items()}

    assert written == in_code


def test_frames_of_deposits_are_those_of_the_code() -> None:
    """Types, bounds and senders in section 12 match the classes."""
    names = {
        Hello: "HELLO", SourceStatus: "STATUS", Deposit: "DEPOSIT", Want: "WANT", Restart: "RESTART", Call: "CALL",
        Result: "RESULT", Refusal: "REFUSED", Bye: "BYE",
    }  # fmt: skip
    written = {name: (int(kind, 16), int(least), int(most)) for name, kind, _, least, most, _ in rows("12.")}
    assert written == {name: (kind.TYPE, kind.MIN_BYTES, kind.MAX_BYTES) for kind, name in names.items()}
    said_by = {
        speaker: {names[kind] for stage in stages.values() for kind in stage.values()}
        for speaker, stages in (("source", FROM_SOURCE), ("broker", FROM_BROKER))
    }
    for name, _, speaker, *_ in rows("12."):
        assert {each for each, said in said_by.items() if name in said} == (
            {"source", "broker"} if speaker == "both" else {speaker}
        )


def test_senders_are_those_of_the_code() -> None:
    """Senders and states of each frame match the session's table."""
    names = {kind: name for name, kind in FRAMES.items()}
    for state, client, broker in rows("4."):
        for role, cell in ((Side.CLIENT, client), (Side.BROKER, broker)):
            written = set(re.findall(r"[A-Z]{3,}", cell))
            assert written == {names[kind] for kind in SENDS.get((role, State(state)), {})}


def test_codes_are_those_of_the_code() -> None:
    """Section 6 matches the table in wire/refusals.py."""
    assert {int(code): name for code, name, _ in rows("6.")} == {
        code: kind.__name__ for code, kind in REFUSAL_CODES.items()
    }


def test_verbs_are_those_of_the_code() -> None:
    """Section 13 has each verb, its callers and arguments; bold ones required."""
    callers = {
        "owner": Audience.OWNER,
        "consumer": Audience.ITSELF,
        "owner, consumer": Audience.ALL,
        "observers": Audience.OBSERVERS,
    }
    written = {}
    for verb, by, arguments, _ in rows("13."):
        required = re.findall(r"\*\*`(\w+)`\*\*", arguments)
        written[verb.strip("`")] = (
            callers[by],
            {name: name in required for name in re.findall(r"`(\w+)`", arguments)},
        )
    assert written == {
        name: (verb.audience, {key: each.required for key, each in verb.arguments.items()})
        for name, verb in CONTROL_VERBS.items()
    }


def test_example_is_a_session() -> None:
    """Both sides produce and understand the bytes in section 11."""
    client, server = ClientSession(), ServerSession()
    frames: list[Frame] = []
    for speaker, _, cell in rows("11."):
        listener = server if speaker == "client" else client
        data = bytes.fromhex(cell.strip("`"))
        if speaker == "client":
            assert _said_by_client(client, len(frames)) == data
        listener.receive_data(data)
        frame = listener.next_event()
        assert frame is not None
        assert frame.encode() == data
        frames.append(frame)
        if isinstance(frame, Hello):
            server.welcome("attic", "web01")
        else:
            server._open.clear()

    assert isinstance(frames[3], Granted)
    assert frames[3].data == bytes.fromhex("deadbeef")
    assert [type(frame) for frame in frames] == [
        Hello, Welcome, Draw, Granted, Draw, Refusal, Call, Result, Bye,
    ]  # fmt: skip


def _said_by_client(client: ClientSession, turn: int) -> bytes:
    match turn:
        case 0:
            return client.hello("demo")
        case 2:
            return client.draw(DrawRequest(4, DrawClass.FULL))[1]
        case 4:
            return client.draw(DrawRequest(32, DrawClass.DRBG, receipt=True))[1]
        case 6:
            return client.call("ping", {})[1]
    return client.bye()


@pytest.mark.parametrize("heading", ["2. TLS", "7. Renewal", "8. Enrolment", "10. Versions"])
def test_section_is_there(heading: str) -> None:
    """Sections that the code refers to have these numbers."""
    assert f"\n## {heading}\n" in TEXT
