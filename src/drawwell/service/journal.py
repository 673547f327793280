"""Log records for systemd's journal, with fields that can be searched for.

systemd.exec(5) says how a process knows that its standard error is the journal, and "Journal native protocol" of
systemd's documentation what is sent: a datagram of ``NAME=value`` lines, or, for a value of several lines, the name,
a line break, the length in 8 bytes, little-endian, and the value.
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
"""What a record may carry as `extra`: DRAWWELL_SOURCE=, DRAWWELL_CONSUMER=."""


def goes_to_journal(stream: Any, environ: Mapping[str, str]) -> bool:
    """Is the stream the one that systemd connected to the journal, and not one that was put in its place?"""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Sends each record as a datagram; what the journal does not take is written by `fallback`."""

    def __init__(self, fallback: logging.Handler, address: str = SOCKET) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._fallback = fallback
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send it (logging)."""
        try:
            self._socket.sendto(_encoded(_fields(record, self.format(record))), self._address)
        except OSError:
            self._fallback.emit(record)

    def close(self) -> None:
        """Close the socket (logging)."""
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
