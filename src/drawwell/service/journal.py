"""Log records for systemd's journal, with searchable fields.

systemd.exec(5) describes how a process detects that standard error is the journal. "Journal
Native Protocol" in systemd's documentation describes the datagram: ``NAME=value`` lines. A
value with several lines is sent as name, line break, length (8 bytes, little-endian), value.
"""

import logging
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

SOCKET: Final = "/run/systemd/journal/socket"
_LENGTH: Final = struct.Struct("<Q")
_PRIORITIES: Final = (
    (logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7),
)  # fmt: skip
"""syslog(3)."""
FIELDS: Final = ("source", "consumer")
"""Keys in a record's `extra`, sent as DRAWWELL_SOURCE= and DRAWWELL_CONSUMER=."""


def goes_to_journal(stream: Any, environ: Mapping[str, str]) -> bool:
    """Return whether systemd connected this stream to the journal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends each record as a datagram; `fallback` handles it if that fails."""

    def __init__(self, fallback: logging.Handler, address: str = SOCKET) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._fallback = fallback
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; called by logging."""
        try:
            self._socket.sendto(_encoded(_fields(record, self.format(record))), self._address)
        except OSError:
            self._fallback.emit(record)

    def close(self) -> None:
        """Close the socket; called by logging."""
        self._socket.close()
        super().close()


def _fields(record: logging.LogRecord, message: str) -> dict[str, str]:
    priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
    more = {f"DRAWWELL_{name.upper()}": getattr(record, name, "") for name in FIELDS}
    return {
        "MESSAGE": message,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "drawwell",
        "LOGGER": record.name,
        **{name: str(value) for name, value in more.items() if value},
    }


def _encoded(fields: Mapping[str, str]) -> bytes:
    lines = []
    for name, value in fields.items():
        data = value.encode(errors="replace")
        if b"\n" in data:
            lines.append(name.encode() + b"\n" + _LENGTH.pack(len(data)) + data + b"\n")
        else:
            lines.append(name.encode() + b"=" + data + b"\n")
    return b"".join(lines)
