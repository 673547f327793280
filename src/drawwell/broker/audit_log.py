"""The audit log: who drew how much, of which class, while which sources were healthy; and never a byte of it.

Grants are added up per consumer, class and minute, with the first and the last serial number, because there may be
ten thousand a second. Receipts are named one by one, refusals are counted by cause, and what an operator does stands
there at once. A line is a JSON object.
"""

import errno
import json
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from drawwell.entropy.blocks import DrawClass

RECEIPTS_AT_ONCE: Final = 4096
"""So many serial numbers stand in one line; then the minute is closed early."""
ROTATE_BYTES: Final = 16 << 20
KEPT: Final = 8
"""Older files beside the one that is written."""
_SAID: Final = frozenset({
    "name", "rate", "quota", "draw_class", "stream", "ttl", "address", "source", "verb", "serial", "again",
    "kind", "via", "uid", "gid", "timeout_s",
})  # fmt: skip
"""Arguments of verbs that may stand in a log."""

log = logging.getLogger("drawwell.audit")
Line = dict[str, Any]


@dataclass(slots=True)
class _Grants:
    draws: int = 0
    n_bytes: int = 0
    first_serial: int = 0
    last_serial: int = 0
    receipts: list[int] = field(default_factory=list)


class AuditTally:
    """What happened since it was last taken. Knows neither time nor files."""

    def __init__(self) -> None:
        self.full: Callable[[], object] = self.take
        """Called when so much was gathered that it should be taken."""
        self._sources: dict[str, int] = {}
        self._grants: dict[tuple[str, DrawClass], _Grants] = {}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._closed: list[Line] = []

    def granted(
        self, consumer: str, draw_class: DrawClass, n_bytes: int, serial: int, *, receipt: bool
    ) -> None:
        """Count one grant."""
        grants = self._grants.get((consumer, draw_class))
        if grants is None:
            grants = self._grants[consumer, draw_class] = _Grants(first_serial=serial)
        grants.draws += 1
        grants.n_bytes += n_bytes
        grants.last_serial = serial
        if receipt:
            grants.receipts.append(serial)
            if len(grants.receipts) >= RECEIPTS_AT_ONCE:
                self.full()

    def refused(self, consumer: str, cause: str) -> None:
        """Count one refusal."""
        self._refused[consumer, cause] += 1

    def sources_are(self, epochs: Mapping[str, int]) -> None:
        """Note which sources are healthy from now on, and in which life of each."""
        if epochs != self._sources:
            self._close()
            self._sources = dict(epochs)
            if len(self._closed) >= RECEIPTS_AT_ONCE:
                self.full()

    def take(self) -> list[Line]:
        """Return what was gathered, and begin with nothing."""
        self._close()
        lines = self._closed
        lines += [
            {"event": "refused", "consumer": consumer, "cause": cause, "times": times}
            for (consumer, cause), times in self._refused.items()
        ]
        self._closed, self._refused = [], Counter()
        return lines

    def _close(self) -> None:
        self._closed += [
            {
                "event": "granted",
                "consumer": consumer,
                "class": str(draw_class),
                "draws": grants.draws,
                "bytes": grants.n_bytes,
                "first_serial": grants.first_serial,
                "last_serial": grants.last_serial,
                "receipts": grants.receipts,
                "sources": self._sources,
            }
            for (consumer, draw_class), grants in self._grants.items()
        ]
        self._grants = {}


class AuditLog:
    """Writes lines to a file of mode 0600, or to the log where there is no file, or it cannot be written.

    Args:
        path: The file, "" for none.
        clock: Seconds since 1970.
    """

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self.fault = ""
        """Why the file could not be written, the last time."""
        self._path = path
        self._clock = clock
        self._file = -1

    def write(self, lines: Iterable[Line], *, since: float | None = None) -> None:
        """Write lines of what happened now, or between `since` and now."""
        now = self._clock()
        span = {"time": round(now, 3)} if since is None else {"since": round(since, 3), "time": round(now, 3)}
        texts = [json.dumps({**span, **line}, separators=(",", ":")) for line in lines]
        if texts and not self._write("".join(f"{text}\n" for text in texts).encode()):
            for text in texts:
                log.info("%s", text)

    def operator(self, verb: str, arguments: Mapping[str, Any], refused: str = "") -> None:
        """Write what an operator asked for, without what is secret or long."""
        said = {name: value for name, value in arguments.items() if name in _SAID and value is not None}
        self.write([{"event": verb, **said} | ({"refused": refused} if refused else {})])

    def sync(self) -> None:
        """Bring what was written to disk."""
        try:
            if self._file >= 0:
                os.fsync(self._file)
        except OSError as error:
            self._note(error)

    def close(self) -> None:
        """Bring it to disk and let go of the file."""
        self.sync()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, data: bytes) -> bool:
        if not self._path:
            return False
        try:
            if self._file < 0 or os.fstat(self._file).st_size >= ROTATE_BYTES:
                self._open()
            self._append(data)
        except OSError as error:
            self._note(error)
            return False
        if self.fault:
            log.warning("the audit log is written again: %s", self._path)
            self.fault = ""
        return True

    def _append(self, data: bytes) -> None:
        size = os.fstat(self._file).st_size
        if os.write(self._file, data) != len(data):
            os.ftruncate(self._file, size)  # half a line would spoil the next
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> None:
        """Open the file, behind the others when it has grown large."""
        self.close()
        if os.path.exists(self._path) and os.path.getsize(self._path) >= ROTATE_BYTES:
            names = [self._path, *(f"{self._path}.{number}" for number in range(1, KEPT + 1))]
            for newer, older in reversed([*pairwise(names)]):
                if os.path.exists(newer):
                    os.replace(newer, older)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        if stat.S_ISREG(os.fstat(self._file).st_mode):  # a device such as /dev/null is everybody's
            os.fchmod(self._file, 0o600)

    def _note(self, error: OSError) -> None:
        why = (error.strerror or str(error)).lower()
        if why != self.fault:
            log.error("the audit log %s cannot be written, its lines follow here: %s", self._path, why)
        self.fault = why
