"""A connection to the fleet's store, dropped if a commit is in doubt.

A call counts as done only if its COMMIT returned without a notice: if a wait for the standby
is cancelled, PostgreSQL reports success with a warning. Any notice therefore counts as a
failure. A query is never cancelled: its connection is dropped instead.
"""

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from drawwell.backoff import Backoff
from drawwell.config.values import HostPort
from drawwell.errors import ConfigError, StateUnavailable
from drawwell.fleet.checks import Standing, Wanted, explain, judge

DEADLINE_S: Final = 10.0
"""If a call has no answer for this long, it fails and its connection is dropped."""
_RETRY_S: Final = (0.2, 5.0)
"""The shortest and the longest pause between connection attempts."""
_CANNOT: Final = "use the fleet's store"
_SESSION: Final = {
    "client_encoding": "utf8",
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "target_session_attrs": "read-write",
}
"""Defaults for libpq: find the primary, and detect a dead one within seconds."""
_FIXED: Final = {
    "default_transaction_isolation": "read committed",
    "client_min_messages": "notice",
    "bytea_output": "hex",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Settings for which the server or the role may have other defaults."""
_SETTINGS: Final = (
    "SELECT "
    + "".join(f"set_config('{name}', '{value}', false), " for name, value in _FIXED.items())
    + "CASE WHEN current_setting('synchronous_commit')"
    " NOT IN ('on', 'remote_apply') THEN set_config('synchronous_commit', 'on', false) END"
)
"""Makes the server drop a dead client, and the client's name, within half a minute."""


_WAITING: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = current_user"
    " AND application_name = current_setting('application_name')"
)
"""Counts this broker's commits that wait for a standby."""


@dataclass(frozen=True, slots=True)
class Address:
    """The store's address, and the requirements that the store must meet."""

    conninfo: str
    wanted: Wanted = field(default_factory=Wanted)


class StoreConnection:
    """Calls the store's functions from any thread, one call at a time.

    Args:
        address: The address of the store.
        program: This broker's name in the store's list of activity.
        writes: Whether calls are durable writes. No write starts while an earlier write of
            this role waits for the synchronous standby, because each occupies a connection.
        prepare: Called for each new connection.
        deadline_s: Timeout of a call.
        jitter: Spreads the brokers' attempts to connect; see `Backoff`.

    Raises:
        ConfigError: the address is invalid, or would not verify TLS.
    """

    def __init__(
        self,
        address: Address,
        program: str,
        *,
        writes: bool = True,
        deadline_s: float = DEADLINE_S,
        prepare: Callable[[psycopg.Connection[Any]], None] = lambda _: None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.standing: Standing | None = None
        """The store's last report about itself."""
        self._attempts = attempts(address.conninfo, f"drawwell {program}{' w' if writes else ''}")
        self._wanted = address.wanted
        self._writes = writes
        self._prepare = prepare
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._db: psycopg.Connection[Any] | None = None
        self._socket: socket.socket | None = None
        self._notices: list[str] = []
        self._failed: tuple[str, str] | None = None
        """The reason for the last failure, and a hint."""
        self._failed_at = self._retry_at = 0.0
        self._backoff = Backoff(*_RETRY_S, jitter)

    def call(self, function: str, *values: Any) -> list[tuple[Any, ...]]:
        """Call a function in its own transaction; return its rows.

        Raises:
            StateUnavailable: it is unknown whether the call took effect; its grants are void.
        """
        marks = ", ".join(["%s"] * len(values))
        return self.run(f"SELECT * FROM drawwell.{function}({marks})", values)  # noqa: S608

    def run(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query as `call` does."""
        # a failing store blocks one thread, not all threads that call it
        if not self._lock.acquire(timeout=0 if self._failed else self._deadline_s):
            raise self._away("another call is still waiting for an answer")
        try:
            if self._failed and time.monotonic() < self._retry_at:
                raise self._away(*self._failed)
            with self._translated():
                db = self._db or self._open()
                with self._deadline():
                    rows = db.execute(query, values).fetchall()
                if self._notices:
                    raise StateUnavailable(f"a commit returned a notice: {self._notices[0]}")
            self._failed, self._failed_at = None, 0.0
            self._backoff.reset()
            return rows
        finally:
            self._lock.release()

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when a change notice arrives.

        Raises:
            StateUnavailable: the store is not connected.
        """
        if self._db is None or self._db.closed:
            raise self._away("not connected")
        return self._db.fileno()

    def close(self) -> None:
        """Drop the connection; a running call then fails."""
        self._shut()
        with self._lock:
            self._drop()

    # ---- inside -------------------------------------------------------------------------

    def _open(self) -> psycopg.Connection[Any]:
        db = connect(self._attempts)
        self._socket = socket.socket(fileno=os.dup(db.fileno()))
        self._db, self._notices = db, []
        with self._deadline():
            db.execute(_SETTINGS).fetchall()
            (row,) = db.execute("SELECT * FROM drawwell.about()").fetchall()
            waiting = db.execute(_WAITING).fetchone() if self._writes else None
            self.standing = judge(row, self._wanted, waiting[0] if waiting else 0)
            self._prepare(db)
        db.add_notice_handler(lambda notice: self._notices.append(notice.message_primary or ""))
        return db

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        timer = threading.Timer(self._deadline_s, self._shut)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _shut(self) -> None:
        """Shut the connection down during a call; any thread may do this."""
        with suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def _drop(self) -> None:
        if self._db is not None:
            with suppress(psycopg.Error):
                self._db.close()
        if self._socket is not None:
            self._socket.close()
        self._db = self._socket = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.DataError, psycopg.IntegrityError, ValueError, RecursionError) as error:
            # invalid values or an unreadable answer; the connection still works
            raise StateUnavailable(f"the fleet's store rejected a value: {error}", cannot=_CANNOT) from error
        except (psycopg.Error, OSError, StateUnavailable) as error:
            self._drop()
            self._retry_at = time.monotonic() + self._backoff.next_s()
            self._failed_at = self._failed_at or time.time()
            self._failed = explain(error)
            raise self._away(*self._failed) from error

    def _away(self, reason: str, hint: str = "") -> StateUnavailable:
        since = time.strftime("%H:%M:%S UTC", time.gmtime(self._failed_at or time.time()))
        return StateUnavailable(
            f"the fleet's store is not available since {since}: {reason}",
            hint=hint or "Draw from another broker, or try again in a minute; see 'drawwell fleet status'.",
            cannot=_CANNOT,
        )


def attempts(conninfo: str, program: str) -> list[str]:
    """Return one address per host, because psycopg 3.1 stops at a silent host.

    Raises:
        ConfigError: the address is invalid, or would not verify TLS to another machine.
    """
    try:
        given = {key: str(value) for key, value in conninfo_to_dict(conninfo).items() if value}
    except psycopg.Error as error:
        raise ConfigError(
            f"the address of the fleet's store is invalid: {str(error).strip()}",
            hint="Write it as postgresql://USER@HOST/DATABASE?sslmode=verify-full.",
        ) from error
    hosts = {key: given.pop(key, "").split(",") for key in ("host", "hostaddr", "port")}
    apart = [name for name in hosts["hostaddr"] + hosts["host"] if not _on_this_machine(name)]
    if (apart or "service" in given) and given.get("sslmode") not in {"verify-full", "verify-ca"}:
        raise ConfigError(
            f"TLS to the fleet's store at {apart[0] if apart else 'that service'} is not verified",
            hint="Add sslmode=verify-full, and sslrootcert=FILE, to [fleet] store.",
        )
    count = max(map(len, hosts.values()))
    session = {**_SESSION, **given, "application_name": program[:63]}
    return [
        make_conninfo(
            "",
            **session,
            **{key: each[min(index, len(each) - 1)] for key, each in hosts.items() if any(each)},
        )
        for index in range(count)
    ]


def _on_this_machine(host: str) -> bool:
    return host[:1] in {"", "/", "@"} or HostPort(host, 1).loopback


def connect(addresses: Sequence[str]) -> psycopg.Connection[Any]:
    """Connect to the first host that accepts writes, or raise all errors."""
    reasons: list[str] = []
    for address in addresses:
        try:
            return psycopg.connect(address, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            reasons.append(str(error))
    raise psycopg.OperationalError("\n".join(reasons))
