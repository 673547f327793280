"""The audit log as a hash chain: each line has the previous line's hash.

The hash covers the line as it is in the file, without the newline. The head of the chain is
the number of lines and the last line's hash. The log and receipts contain signed heads.
"""

import base64
import binascii
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from drawwell.crypto import pki
from drawwell.crypto.receipts import SignsTexts, check_signature
from drawwell.errors import AuthenticationFailed

HEAD_FORMAT: Final = "drawwell-audit-head/1"
_NO_LINE: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The number of lines in a chain, and the hash of the last line."""

    count: int = 0
    digest: str = _NO_LINE

    def followed_by(self, line: bytes) -> "ChainHead":
        """Return the head after one more line."""
        return ChainHead(self.count + 1, hashlib.sha256(line).hexdigest())

    def write(self, fields: Mapping[str, Any]) -> bytes:
        """Return the next line of the chain."""
        return json.dumps(
            {"n": self.count + 1, "prev": self.digest, **fields}, separators=(",", ":")
        ).encode()


def parse_line(line: bytes) -> dict[str, Any]:
    """Parse a line; raise ValueError unless it is a JSON object."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("the line is not a JSON object")  # noqa: TRY004  the text is wrong, not a type
    return fields


def place_of(fields: Mapping[str, Any]) -> ChainHead | None:
    """Return the chain's head before a line.

    Returns None for an unchained line, as written by release 0.1.
    """
    number, previous = fields.get("n"), fields.get("prev")
    if isinstance(number, int) and isinstance(previous, str) and number > 0:
        return ChainHead(number - 1, previous)
    return None


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The heads of the log and of the operators' log, with one signature."""

    broker: str
    time_s: int
    log: ChainHead
    operators: ChainHead
    signature: bytes = field(default=b"", repr=False)

    def fields(self) -> dict[str, Any]:
        """Return the signed fields, in the order of the line in the log."""
        return {
            "format": HEAD_FORMAT, "broker": self.broker, "time_s": self.time_s,
            "count": self.log.count, "digest": self.log.digest,
            "operators_count": self.operators.count, "operators_digest": self.operators.digest,
        }  # fmt: skip

    def line(self, signer: SignsTexts) -> dict[str, Any]:
        """Sign the heads; return the fields of a log line."""
        signature = base64.b64encode(signer.sign_text(self._text())).decode()
        return {"event": "head", **self.fields(), "signature": signature}

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Self:
        """Parse the line of a signed head; raise ValueError for any other line."""
        try:
            time_s, *counts = (line[name] for name in ("time_s", "count", "operators_count"))
            if any(type(number) is not int for number in (time_s, *counts)):
                raise ValueError("the line is not a signed head: a number is not an integer")
            log = ChainHead(counts[0], str(line["digest"]))
            operators = ChainHead(counts[1], str(line["operators_digest"]))
            signature = base64.b64decode(line["signature"], validate=True)
            return cls(str(line["broker"]), time_s, log, operators, signature)
        except (KeyError, TypeError, binascii.Error):
            raise ValueError("the line is not a signed head") from None

    def check(self, public_key: bytes) -> None:
        """Raise AuthenticationFailed unless a given key signed these heads."""
        *earlier, last = pki.pem_blocks(public_key)
        for key in earlier:
            with suppress(AuthenticationFailed):
                return check_signature(key, self.signature, self._text())
        return check_signature(last, self.signature, self._text())

    def _text(self) -> bytes:
        return json.dumps(self.fields(), sort_keys=True, separators=(",", ":")).encode()


@dataclass(slots=True)
class ChainCheck:
    """Checks a chain line by line and collects its faults.

    `marks` are heads that are known from elsewhere: origins and digests by number of lines.
    """

    name: str
    first: int = 0
    head: ChainHead = field(default_factory=ChainHead)
    faults: list[str] = field(default_factory=list)
    unchained: int = 0
    marks: dict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def expect(self, head: ChainHead, origin: str) -> None:
        """Require the chain to contain `head`, which is known from `origin`."""
        if head.count:
            self.marks[head.count].append((origin, head.digest))

    def read(self, lines: Iterable[bytes]) -> Iterable[tuple[dict[str, Any], ChainHead]]:
        """Check all lines; yield each line of the chain with the head before it."""
        last = ChainHead()
        for line in lines:
            try:
                fields = parse_line(line)
                before = place_of(fields)
            except (ValueError, RecursionError):
                fields, before = {}, None
            if before is None:
                self._unchained(line)
                last = last.followed_by(line)
                continue
            if not self.first:
                self.first = before.count + 1
                if last.count and (before.count or before.digest != last.digest):
                    self._fault("lines before line 1 were changed")
                self.head = before
                self._compare_marks()
            else:
                self._compare(before)
            self.head = before.followed_by(line)
            self._compare_marks()
            yield fields, before

    def finish(self, *, rotated: bool) -> None:
        """Add faults for lines missing at the beginning or the end.

        `rotated` means that the oldest lines were deleted by rotation.
        """
        for count, marks in sorted(self.marks.items()):
            for origin, _ in marks:
                if count > self.head.count:
                    self._fault(
                        f"the end is missing: the last line is {self.head.count}, but {origin} has line {count}"
                    )
        if not self.first:
            self._fault("the log is empty, but a broker writes a line when it starts")
        elif self.first > 1 and not rotated:
            self._fault(f"lines 1 to {self.first - 1} were removed")

    def _unchained(self, line: bytes) -> None:
        if self.first:
            self._fault(f"the line after line {self.head.count} is not part of the chain: {line[:40]!r}")
        else:
            self.unchained += 1

    def _compare(self, before: ChainHead) -> None:
        number, wanted = before.count + 1, self.head.count + 1
        if number > wanted:
            self._fault(f"lines {wanted} to {before.count} were removed")
        elif number < wanted:
            self._fault(f"line {number} after line {self.head.count} was added")
        elif before.digest != self.head.digest:
            self._fault(f"line {self.head.count} or line {number} was changed")

    def _compare_marks(self) -> None:
        for origin, digest in self.marks.pop(self.head.count, ()):
            if digest != self.head.digest:
                self._fault(f"line {self.head.count} does not have the hash in {origin}")

    def _fault(self, what: str) -> None:
        self.faults.append(f"{self.name}: {what}")
