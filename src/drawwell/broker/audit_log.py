"""The audit log: who drew how much, of which class, while which sources were healthy; and never a byte of it.

Grants are added up per consumer, class and minute, with the first and the last serial number; refusals and control
verbs are counted by consumer and cause: no consumer can fill the log. Operators' acts are written at once, in a file of
their own. A line is a JSON object and carries the hash of the line before it (crypto/audit_chain.py).
"""

import errno
import json
import logging
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from drawwell.crypto.audit_chain import ChainHead, parse_line, place_of
from drawwell.entropy.blocks import DrawClass

CHANGES_TOLD_APART: Final = 64
"""Lines of grants that changes of the sources may cause before the minute is over."""
ROTATE_BYTES: Final = 16 << 20
RECENT: Final = 20
KEPT: Final = 8
"""Older files that are kept."""
_NO_LINK: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_TAIL_BYTES: Final = 1 << 16
"""A line is shorter."""
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
    receipts: int = 0


class AuditTally:
    """What happened since it was last taken. Knows neither time nor files."""

    def __init__(self) -> None:
        self.head = ChainHead()
        """The head of the log when it was last signed; receipts carry it."""
        self._sources: dict[str, int] = {}
        self._named: dict[str, int] = {}
        """Those of the sums that are not closed."""
        self._grants: dict[tuple[str, DrawClass], _Grants] = {}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._asked: Counter[tuple[str, str, str]] = Counter()
        self._closed: list[Line] = []

    def note_head(self, head: ChainHead) -> None:
        """Note the head of the log that was signed just now."""
        self.head = head

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
        grants.receipts += receipt

    def refused(self, consumer: str, cause: str) -> None:
        """Count one refusal."""
        self._refused[consumer, cause] += 1

    def asked(self, consumer: str, verb: str, refused: str) -> None:
        """Count one control verb; `refused` is the error's name, "" when it was done."""
        self._asked[consumer, verb, refused] += 1

    def sources_are(self, epochs: Mapping[str, int]) -> None:
        """Note which sources are healthy from now on, and in which life of each.

        A source that fails again and again cannot fill the log: after some lines, the next one names all that
        were healthy during its grants, each in its last life.
        """
        if epochs == self._sources:
            return
        if len(self._closed) < CHANGES_TOLD_APART:
            self._close()
        self._sources = dict(epochs)
        self._named = self._named | self._sources if self._grants else self._sources

    def take(self) -> list[Line]:
        """Return what was gathered, and begin with nothing."""
        self._close()
        lines = self._closed
        lines += [
            {"event": "refused", "consumer": consumer, "cause": cause, "times": times}
            for (consumer, cause), times in self._refused.items()
        ]
        lines += [
            {"event": "asked", "consumer": consumer, "verb": verb, "times": times}
            | ({"refused": refused} if refused else {})
            for (consumer, verb, refused), times in self._asked.items()
        ]
        self._closed, self._refused, self._asked = [], Counter(), Counter()
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
                "sources": self._named,
            }
            for (consumer, draw_class), grants in self._grants.items()
        ]
        self._grants, self._named = {}, self._sources


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
        self._lost = 0
        self.head = _last_head(path)
        """Where the chain stands."""
        self.recent: deque[Line] = deque(maxlen=RECENT)
        """The last lines of single events."""

    def write(self, lines: Iterable[Line], *, since: float | None = None) -> None:
        """Write lines of what happened now, or between `since` and now."""
        now = self._clock()
        span = {"time": round(now, 3)} if since is None else {"since": round(since, 3), "time": round(now, 3)}
        found = [{**span, **line} for line in lines]
        if not found:
            return
        if since is None:
            self.recent.extend(found)
        head, texts = self.head, []
        for line in [{**span, "event": "written to the log", "lines": self._lost}] * bool(self._lost) + found:
            texts.append(head.write(line))
            head = head.followed_by(texts[-1])
        if self._write(b"".join(text + b"\n" for text in texts)):
            self.head, self._lost = head, 0
            return
        if self._path:
            self._lost += len(
                found
            )  # the chain is the file's: its next line counts those that stand elsewhere
            texts = [json.dumps(line, separators=(",", ":")).encode() for line in found]
        else:
            self.head = head
        for text in texts:
            log.info("%s", text.decode())

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
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK, 0o600)
        if stat.S_ISREG(os.fstat(self._file).st_mode):  # a device such as /dev/null is everybody's
            os.fchmod(self._file, 0o600)

    def _note(self, error: OSError) -> None:
        why = (error.strerror or str(error)).lower()
        if why != self.fault:
            log.error("the audit log %s cannot be written, its lines follow here: %s", self._path, why)
        self.fault = why


def files_of(path: str) -> list[str]:
    """Return the files of a log that are there, the oldest first."""
    names = [*(f"{path}.{number}" for number in range(KEPT, 0, -1)), path]
    return [name for name in names if os.path.isfile(name)]


def is_rotated(path: str) -> bool:
    """Return whether lines may have been dropped: all older files are there, and each is as large as it gets."""
    older = [name for name in files_of(path) if name != path]
    return len(older) == KEPT and all(os.path.getsize(name) >= ROTATE_BYTES for name in older)


def _last_head(path: str) -> ChainHead:
    """Return where the chain of a log stands on disk; half a line of a crash is cut off."""
    for name in reversed(files_of(path) if path else []):
        with suppress(OSError), os.fdopen(os.open(name, os.O_RDWR | _NO_LINK), "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            whole, _, half = file.read().rpartition(b"\n")
            if half:
                file.truncate(size - len(half))
            if whole:
                return _head_after(whole.rpartition(b"\n")[2])
    return ChainHead()


def _head_after(line: bytes) -> ChainHead:
    with suppress(ValueError, RecursionError):
        if before := place_of(parse_line(line)):
            return before.followed_by(line)
    return replace(ChainHead().followed_by(line), count=0)  # the chain begins after what release 0.1 wrote
