"""Log records in the journal's format, on a real datagram socket."""

import io
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.service.journal import JournalHandler, goes_to_journal
from drawwell.testing.waiting import DEADLINE_S


@pytest.fixture
def journal(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(DEADLINE_S)
        sock.bind(str(folder / "journal"))
        yield sock


@pytest.fixture
def plain() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(folder: Path, plain: io.StringIO) -> Iterator[logging.Logger]:
    logger = logging.getLogger("drawwell.test")
    handler = JournalHandler(logging.StreamHandler(plain), str(folder / "journal"))
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    handler.close()


def test_a_record_is_a_datagram_of_fields(journal: socket.socket, log: logging.Logger) -> None:
    """Message, priority and our own fields are separate lines."""
    log.warning("stick: %s", "gone", extra={"source": "stick"})
    assert journal.recv(4096).decode().splitlines() == [
        "MESSAGE=stick: gone",
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=drawwell",
        "LOGGER=drawwell.test",
        "DRAWWELL_SOURCE=stick",
    ]


def test_a_line_break_makes_no_field(journal: socket.socket, log: logging.Logger) -> None:
    """A multi-line value has its length, so no field can be injected."""
    log.error("first\nPRIORITY=0")
    data = journal.recv(4096)
    assert data.startswith(b"MESSAGE\n\x10\0\0\0\0\0\0\0first\nPRIORITY=0\nPRIORITY=3\n")


def test_what_the_journal_does_not_take_is_a_plain_line(log: logging.Logger, plain: io.StringIO) -> None:
    """Without a listener at the socket no record is lost."""
    log.error("no listener")
    assert plain.getvalue() == "no listener\n"


def test_the_stream_of_another_program_is_no_journal(tmp_path: Path) -> None:
    """Only the file that systemd named is its journal."""
    with (tmp_path / "log").open("w") as file:
        status = os.fstat(file.fileno())
        named = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert goes_to_journal(file, named)
        assert not goes_to_journal(file, {})
        assert not goes_to_journal(io.StringIO(), named)
    with (tmp_path / "other").open("w") as other:
        assert not goes_to_journal(other, named)
