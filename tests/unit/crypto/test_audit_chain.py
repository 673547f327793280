"""The chain of the audit log detects changes to its lines."""

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.crypto.audit_chain import ChainCheck, ChainHead, SignedHead, parse_line, place_of
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed
from drawwell.errors import AuthenticationFailed

SIGNER = ReceiptSigner(receipt_key_from_seed(bytes(32)))
OTHER = ReceiptSigner(receipt_key_from_seed(b"\1" * 32))


def chain(count: int, *, since: ChainHead | None = None) -> tuple[list[bytes], list[ChainHead]]:
    """Build lines, and the head after each."""
    head, lines, heads = since or ChainHead(), [], []
    for number in range(count):
        lines.append(head.write({"event": "x", "value": number}))
        head = head.followed_by(lines[-1])
        heads.append(head)
    return lines, heads


def faults(lines: list[bytes], *known: ChainHead, rotated: bool = True) -> list[str]:
    check = ChainCheck("log")
    for head in known:
        check.expect(head, "a receipt")
    for _ in check.read(lines):
        pass
    check.finish(rotated=rotated)
    return check.faults


def test_a_whole_chain_has_no_faults() -> None:
    """A chain without its oldest lines is valid, with receipts of any age."""
    lines, heads = chain(9)
    assert faults(lines, *heads) == []
    assert faults(lines[4:], *heads) == []


@given(st.integers(0, 7), st.sampled_from(["remove", "change", "repeat", "swap", "insert", "garbage"]))
def test_a_change_to_one_line_is_found(at: int, how: str) -> None:
    """Removing, changing, repeating, moving or adding a line is detected."""
    lines, _ = chain(9)
    change = {
        "remove": lambda: [*lines[: at or 1], *lines[(at or 1) + 1 :]],
        "change": lambda: [*lines[:at], lines[at].replace(b'"x"', b'"y"'), *lines[at + 1 :]],
        "repeat": lambda: [*lines[: at + 1], *lines[at:]],
        "swap": lambda: [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        "insert": lambda: [*lines[: at + 1], ChainHead(at, "1" * 64).write({"event": "x"}), *lines[at + 1 :]],
        "garbage": lambda: [*lines[: at + 1], b"\xff{", *lines[at + 1 :]],
    }[how]
    assert faults(change())


def test_a_cut_end_is_found_with_a_later_head() -> None:
    """Neither the chain alone nor an older head reveals the cut."""
    lines, heads = chain(9)
    assert faults(lines[:6]) == []
    assert faults(lines[:6], heads[2]) == []
    assert faults(lines[:6], heads[7]) == [
        "log: the end is missing: the last line is 6, but a receipt has line 8"
    ]
    assert "the end is missing" in faults([], heads[0])[0]


def test_a_cut_front_is_found() -> None:
    """Only rotation removes lines; the head before the first line is compared."""
    lines, heads = chain(9)
    assert faults(lines[4:], rotated=False) == ["log: lines 1 to 4 were removed"]
    assert faults(lines, rotated=False) == []
    assert faults(lines[4:], replace(heads[3], digest="1" * 64)) == [
        "log: line 4 does not have the hash in a receipt"
    ]


def test_an_empty_log_is_a_fault() -> None:
    """A broker writes a line when it starts, so an empty log was emptied."""
    assert faults([]) == ["log: the log is empty, but a broker writes a line when it starts"]


@pytest.mark.parametrize("number", ["1e999", "null", "[]", '"x"', "NaN", '"1"', "1.0", "true"])
def test_a_head_with_an_invalid_number_is_refused(number: str) -> None:
    """A changed head is an invalid line, never an internal error."""
    line = json.dumps(SignedHead("well", 1, ChainHead(), ChainHead()).line(SIGNER))
    for name in ("count", "time_s", "operators_count"):
        changed = parse_line(line.encode()) | {name: json.loads(number)}
        with pytest.raises(ValueError, match=r"not a signed head|invalid literal|cannot convert"):
            SignedHead.read(changed)


def test_a_rewritten_chain_is_found_with_a_known_head() -> None:
    """The new chain is consistent, but does not contain the known head."""
    _, heads = chain(9)
    again, _ = chain(9, since=None)
    forged = [json.dumps({**parse_line(line), "value": 99}).encode() for line in again]
    head, rewritten = ChainHead(), []
    for line in forged:
        fields = {name: value for name, value in parse_line(line).items() if name not in {"n", "prev"}}
        rewritten.append(head.write(fields))
        head = head.followed_by(rewritten[-1])
    assert faults(rewritten) == []
    assert faults(rewritten, heads[5]) == ["log: line 6 does not have the hash in a receipt"]


def test_lines_of_an_older_release_stand_only_before_the_chain() -> None:
    """The chain starts with the hash of the last old line; none may follow."""
    old = [b'{"event":"a"}', b'{"event":"b"}']
    lines, _ = chain(3, since=ChainHead(0, ChainHead().followed_by(old[1]).digest))
    assert faults([*old, *lines]) == []
    assert faults([old[0], b'{"event":"c"}', *lines])
    assert faults([*old, *lines, old[0]])


def test_every_field_of_a_signed_head_is_signed() -> None:
    """Another key, a changed field and a missing field are refused."""
    _, heads = chain(3)
    line = SignedHead("well", 7, heads[2], heads[0]).line(SIGNER)
    read = SignedHead.read(json.loads(json.dumps(line)))
    read.check(SIGNER.public_key)
    assert (read.log, read.operators) == (heads[2], heads[0])
    with pytest.raises(AuthenticationFailed):
        read.check(OTHER.public_key)
    for name in ("broker", "time_s", "count", "digest", "operators_count", "operators_digest"):
        changed = SignedHead.read({**line, name: 99 if isinstance(line[name], int) else "x"})
        with pytest.raises(AuthenticationFailed):
            changed.check(SIGNER.public_key)
        with pytest.raises(ValueError, match="not a signed head"):
            SignedHead.read({key: value for key, value in line.items() if key != name})


@given(st.binary(max_size=80) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
    lambda value: json.dumps({"n": value, "prev": value}).encode()
))  # fmt: skip
def test_any_bytes_are_a_line_or_a_fault(line: bytes) -> None:
    """Parsing raises only ValueError, and a check never raises."""
    with contextlib.suppress(ValueError):
        place_of(parse_line(line))
    assert isinstance(faults([line]), list)
