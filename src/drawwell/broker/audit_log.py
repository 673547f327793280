"""The audit log: consumers, drawn amounts, classes and sources.

Drawn bytes are never logged. Grants are summed per consumer, class and minute, with the first
and last serial number. Refusals and control verbs are counted by consumer and cause, so no
consumer can fill the log. Operators' actions are written immediately, to a second file. Each
line is a JSON object with the hash of the previous line (crypto/audit_chain.py).
"""

import asyncio
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

from drawwell.crypto.audit_chain import ChainCheck, ChainHead, parse_line, place_of
from drawwell.entropy.blocks import DrawClass

SOURCE_CHANGES_PER_MINUTE: Final = 64
"""The maximum number of extra grant lines per minute that source changes can cause."""
CHECKED_PER_TURN: Final = 20
ROTATE_BYTES: Final = 16 << 20
RECENT: Final = 20
KEPT: Final = 8
"""The number of rotated files to keep."""
_NO_LINK: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_TAIL_BYTES: Final = 1 << 16
"""More bytes than the longest line can have."""
_SAID: Final = frozenset({
    "name", "rate", "quota", "draw_class", "stream", "ttl", "address", "source", "verb", "serial", "again",
    "kind", "via", "uid", "gid", "timeout_s",
})  # fmt: skip
"""The verbs' arguments that may be logged."""

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
    """Counts events until `take` returns them; uses neither clock nor files."""

    def __init__(self) -> None:
        self.head = ChainHead()
        """The last signed head of the log, for receipts."""
        self._sources: dict[str, int] = {}
        self._named: dict[str, int] = {}
        """The sources of the grants that are not in a finished line yet, with epochs."""
        self._grants: dict[tuple[str, DrawClass], _Grants] = {}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._asked: Counter[tuple[str, str, str]] = Counter()
        self._closed: list[Line] = []

    def note_head(self, head: ChainHead) -> None:
        """Store the log's newly signed head."""
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
        """Count a control verb; `refused` is the error's name, or "" for success."""
        self._asked[consumer, verb, refused] += 1

    def sources_are(self, epochs: Mapping[str, int]) -> None:
        """Record the healthy sources and the health epoch of each.

        Beyond a limit per minute, a change starts no new line, so a failing source cannot fill
        the log. A line then lists all sources that were healthy, each with its last epoch.
        """
        if epochs == self._sources:
            return
        if len(self._closed) < SOURCE_CHANGES_PER_MINUTE:
            self._close()
        self._sources = dict(epochs)
        self._named = self._named | self._sources if self._grants else self._sources

    def take(self) -> list[Line]:
        """Return the counts and reset them."""
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
    """Writes lines to a file of mode 0600, or to the logger if that fails.

    Args:
        path: The path of the file, or "" to use only the logger.
        clock: Returns seconds since 1970.
    """

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self.fault = ""
        """The last error while writing the file."""
        self.broken = ""
        """How another program changed the file, or ""; kept until a restart."""
        self._path = path
        self._clock = clock
        self._file = -1
        self._end: int | None = None  # the file's size after our last write; None if it is not a regular file
        self._lost = 0
        self.head = _last_head(path)
        """The current head of the chain."""
        self.recent: deque[Line] = deque(maxlen=RECENT)
        """The last lines about single events, as opposed to counts."""

    def write(self, lines: Iterable[Line], *, since: float | None = None) -> None:
        """Write lines about events that happened now, or since `since`."""
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
            self._lost += len(found)  # the chain covers only the file, whose next line has this count
            texts = [json.dumps(line, separators=(",", ":")).encode() for line in found]
        else:
            self.head = head
        for text in texts:
            log.info("%s", text.decode())

    async def check_chain(self) -> None:
        """Check the newest file's chain, a few lines per event loop iteration."""
        check = ChainCheck(self._path)
        for number, _ in enumerate(check.read(await asyncio.to_thread(self._whole_lines))):
            if number % CHECKED_PER_TURN == 0:
                await asyncio.sleep(0)
        self.broken = self.broken or next(iter(check.faults), "")

    def _whole_lines(self) -> list[bytes]:
        with suppress(OSError), os.fdopen(os.open(self._path, os.O_RDONLY | _NO_LINK), "rb") as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file.read().split(b"\n")[:-1]
        return []

    def operator(self, verb: str, arguments: Mapping[str, Any], refused: str = "") -> None:
        """Write an operator's action without secret or long arguments."""
        said = {name: value for name, value in arguments.items() if name in _SAID and value is not None}
        self.write([{"event": verb, **said} | ({"refused": refused} if refused else {})])

    def sync(self) -> None:
        """Flush the file to disk."""
        try:
            if self._file >= 0:
                os.fsync(self._file)
        except OSError as error:
            self._note(error)

    def close(self) -> None:
        """Flush and close the file."""
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
            log.warning("the audit log %s can be written again", self._path)
            self.fault = ""
        return True

    def _append(self, data: bytes) -> None:
        size = os.fstat(self._file).st_size
        if self._end is not None and size != self._end:
            self.broken = f"another program changed the size of {self._path}"
        if os.write(self._file, data) != len(data):
            os.ftruncate(self._file, size)  # an incomplete line would corrupt the next line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end = None if self._end is None else size + len(data)

    def _open(self) -> None:
        """Open the file; rotate it first if it is large."""
        self.close()
        if os.path.exists(self._path) and os.path.getsize(self._path) >= ROTATE_BYTES:
            names = [self._path, *(f"{self._path}.{number}" for number in range(1, KEPT + 1))]
            for newer, older in reversed([*pairwise(names)]):
                if os.path.exists(newer):
                    os.replace(newer, older)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK, 0o600)
        status, self._end = os.fstat(self._file), None
        if stat.S_ISREG(status.st_mode):  # never chmod a device such as /dev/null
            os.fchmod(self._file, 0o600)
            self._end = status.st_size

    def _note(self, error: OSError) -> None:
        why = (error.strerror or str(error)).lower()
        if why != self.fault:
            log.error("cannot write the audit log %s: %s. Its lines follow here", self._path, why)
        self.fault = why


def files_of(path: str) -> list[str]:
    """Return the existing files of a log, oldest first."""
    names = [*(f"{path}.{number}" for number in range(KEPT, 0, -1)), path]
    return [name for name in names if os.path.isfile(name)]


def is_rotated(path: str) -> bool:
    """Return whether rotation may have deleted lines (all old files are full)."""
    older = [name for name in files_of(path) if name != path]
    return len(older) == KEPT and all(os.path.getsize(name) >= ROTATE_BYTES for name in older)


def _last_head(path: str) -> ChainHead:
    """Return the head of a log on disk; remove a line truncated by a crash."""
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
    return replace(ChainHead().followed_by(line), count=0)  # the chain starts after release 0.1's lines
