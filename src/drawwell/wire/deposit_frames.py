"""Frames between a source process and its broker (docs/protocol.md, 12).

The format is the same as in a session (frames.py), and so are HELLO, CALL, RESULT, REFUSED and
BYE. A deposit is not answered, and a lost deposit is not sent again.
"""

import struct
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, Self

from drawwell.entropy.conditioning import INPUT_BITS, OUTPUT_BITS
from drawwell.reports import HealthTestReport, SourceReport, as_json
from drawwell.wire.frames import Frame, put_json, take_json

DEPOSIT_VERSION: Final = 1
OUTPUT_BYTES: Final = OUTPUT_BITS // 8
MAX_DEPOSIT_BYTES: Final = 65_536
MAX_REPORT_BYTES: Final = 32_768
MAX_TESTS: Final = 16
_DEPOSIT: Final = struct.Struct(">QQ")
_MOST_COUNTED: Final = 2**63 - 1
_TEXT_BYTES: Final = {
    "name": 63, "kind": 16, "noise": 64, "firmware_detail": 255, "hardware_id": 32, "path": 1024,
    "last_error": 1024,
}  # fmt: skip
"""Limits of a report's text fields in bytes; 255 for all others."""
_IN_RECEIPTS: Final = frozenset({"name", "kind", "noise", "firmware_detail"})
"""Fields limited to ASCII, to ensure that a receipt has room for all sources."""


@dataclass(frozen=True, slots=True)
class SourceStatus(Frame):
    """The source's current state."""

    TYPE: ClassVar[int] = 0x30
    MIN_BYTES: ClassVar[int] = 2
    MAX_BYTES: ClassVar[int] = MAX_REPORT_BYTES

    report: SourceReport

    def encode(self) -> bytes:
        return self._framed(put_json(_printable(as_json(self.report))))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return cls(_read(SourceReport, take_json(payload)))


@dataclass(frozen=True, slots=True)
class Deposit(Frame):
    """Conditioned bytes, and counts since the last deposit.

    assessed_bits: min-entropy assessed in tested samples.
    spoilt_bytes: conditioned bytes that were used for tests, or not sent in time.
    data: whole outputs of the conditioner, of 64 bytes each.
    """

    TYPE: ClassVar[int] = 0x31
    MIN_BYTES: ClassVar[int] = _DEPOSIT.size
    MAX_BYTES: ClassVar[int] = _DEPOSIT.size + MAX_DEPOSIT_BYTES

    assessed_bits: int
    spoilt_bytes: int
    data: bytes | bytearray = field(repr=False)

    @property
    def needed_bits(self) -> int:
        """The assessed bits required (SP 800-90C: n_out + 64 per output)."""
        return (self.spoilt_bytes + len(self.data)) // OUTPUT_BYTES * INPUT_BITS

    def encode(self) -> bytes:
        head = _DEPOSIT.pack(self.assessed_bits, self.spoilt_bytes)
        return self._framed(head, bytes(self.data))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        assessed_bits, spoilt_bytes = _DEPOSIT.unpack_from(payload)
        data = bytearray(memoryview(payload)[_DEPOSIT.size :])
        if len(data) % OUTPUT_BYTES or spoilt_bytes % OUTPUT_BYTES:
            raise ValueError("an output is incomplete")
        return cls(assessed_bits, spoilt_bytes, data)


@dataclass(frozen=True, slots=True)
class Want(Frame):
    """Whether the broker wants bytes. The first Want accepts the source."""

    TYPE: ClassVar[int] = 0x32
    MIN_BYTES: ClassVar[int] = 1
    MAX_BYTES: ClassVar[int] = 1

    wanted: bool

    def encode(self) -> bytes:
        return self._framed(bytes((self.wanted,)))

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        if payload[0] > 1:
            raise ValueError("the value must be 0 or 1")
        return cls(bool(payload[0]))


@dataclass(frozen=True, slots=True)
class Restart(Frame):
    """A request to discard bytes that a copy might also have, or its answer."""

    TYPE: ClassVar[int] = 0x33
    MIN_BYTES: ClassVar[int] = 0
    MAX_BYTES: ClassVar[int] = 0

    def encode(self) -> bytes:
        return self._framed()

    @classmethod
    def decode(cls, payload: bytes) -> Self:  # noqa: ARG003 - its length is 0
        return cls()


def _printable(document: dict[str, Any]) -> dict[str, Any]:
    """Truncate texts to their limits, and replace unprintable characters."""
    return {name: _put(name, value) for name, value in document.items()}


def _put(name: str, value: Any) -> Any:
    if isinstance(value, str):
        text = "".join(char if char.isprintable() else "?" for char in value)
        text = text.encode("ascii", "replace").decode() if name in _IN_RECEIPTS else text
        data = text.encode("utf-8", "replace")
        return data[: _TEXT_BYTES.get(name, 255)].decode(errors="ignore")
    if isinstance(value, dict):
        return _printable(value)
    return [_put(name, each) for each in value] if isinstance(value, list | tuple) else value


def _read(kind: Any, document: Any) -> Any:
    """Parse a report or raise ValueError; fields with a default are optional."""
    known = {each.name: each.type for each in fields(kind)}
    needed = {each.name for each in fields(kind) if each.default is MISSING}
    if not isinstance(document, dict) or not needed <= document.keys() <= known.keys():
        raise ValueError("the report has missing or unknown fields")
    return kind(**{name: _take(name, known[name], value) for name, value in document.items()})


def _take(name: str, kind: Any, value: Any) -> Any:
    if kind is str:
        return _take_text(name, value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind in {int, float} and isinstance(value, int | kind) and not isinstance(value, bool):
        if 0 <= value <= _MOST_COUNTED:
            return kind(value)
    elif name == "tests" and isinstance(value, list) and len(value) <= MAX_TESTS:
        return _tests(_read(HealthTestReport, each) for each in value)
    elif is_dataclass(kind):
        return _read(kind, value)
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    raise ValueError("a value in the report is out of range")


def _tests(found: Iterable[HealthTestReport]) -> tuple[HealthTestReport, ...]:
    """Check that the tests are distinct and have cutoffs; return them."""
    tests = tuple(found)
    names = {(each.name, each.unit) for each in tests}
    if len(names) < len(tests) or not all(each.cutoff_intermittent for each in tests):
        raise ValueError("the report has a repeated test, or a test without a cutoff")
    return tests


def _take_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("a text in the report is not printable text")
    if len(value.encode()) > _TEXT_BYTES.get(name, 255) or (name in _IN_RECEIPTS and not value.isascii()):
        raise ValueError("a text in the report is too long or not ASCII")
    return value
