"""A broker's row in the fleet's store, and the other brokers' rows.

A row is written without waiting for the standby: losing a row does no harm, and a broker
remains visible while the standby is down.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from drawwell.errors import StateUnavailable
from drawwell.fleet.checks import Standing, standing_of
from drawwell.fleet.connection import Address, StoreConnection
from drawwell.fleet.own_row import OwnRow
from drawwell.reports import FleetBrokerReport, FleetReport, FleetSourceReport
from drawwell.wire.brokers import MOST_ADDRESSES

EVERY_S: Final = 5.0
_LONGEST: Final = 200
_BEYOND: Final = 2**62
_MOST_SOURCES: Final = 32
"""Maximum number of sources of a broker (config/broker_side.py)."""
_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    """The store's answer, received at `at` (monotonic clock) after `took_s`."""

    at: float
    took_s: float = 0.0
    standing: Standing | None = None
    standby_lag_s: float | None = None
    changes: int = 0
    rows: tuple[_Row, ...] = field(default=(), repr=False)


class Heartbeat:
    """Writes this broker's row every few seconds, and reads all rows.

    Args:
        address: The store.
        broker: The name of this broker.
        grace_s: How long the broker may serve without the store.
        describe: Returns this broker's row; called in the event loop.
    """

    def __init__(self, address: Address, broker: str, grace_s: float, describe: Callable[[], OwnRow]) -> None:
        self._address = address
        self._parts = conninfo_to_dict(address.conninfo)
        self._grace_s = grace_s
        self._describe = describe
        self._connection = StoreConnection(address, f"{broker} row", writes=False, prepare=_wait_for_none)
        self._answer = _Answer(time.monotonic())
        self._trouble = ""

    async def run(self) -> None:
        """Write and read until cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(EVERY_S)

    async def beat(self) -> None:
        """Write the row once and read all rows; log if the store is unavailable."""
        try:
            self._answer = await asyncio.to_thread(self._exchange, self._describe())
            self._trouble = ""
        except StateUnavailable as error:
            self._trouble = str(error)

    def close(self) -> None:
        """Drop the connection; a running exchange then fails."""
        self._connection.close()

    def rows(self) -> tuple[_Row, ...]:
        """Return each broker's row as last read."""
        return self._answer.rows

    def report(self) -> FleetReport:
        """Return this broker's view of the fleet."""
        answer, standing = self._answer, self._answer.standing
        away_s = time.monotonic() - answer.at if self._trouble else 0.0
        return FleetReport(
            name=standing.fleet if standing else self._address.wanted.fleet,
            store=self._address.conninfo,
            grace_s=self._grace_s,
            away_s=away_s,
            trouble=self._trouble,
            answer_s=answer.took_s,
            replication=standing.replication if standing else "",
            standbys=standing.standbys if standing else 0,
            standby_lag_s=answer.standby_lag_s,
            clock_ahead_s=standing.clock_ahead_s if standing else 0.0,
            database=str(self._parts.get("dbname", "")),
            role=str(self._parts.get("user", "")),
            role_may=standing.too_much if standing else "",
            brokers=tuple(_broker(row, time.monotonic() - answer.at) for row in answer.rows),
        )

    def _exchange(self, own: OwnRow) -> _Answer:
        report = {**own.report, "unread_changes": max(0, self._answer.changes - own.changes_read)}
        call = self._connection.call
        standing, begun = standing_of(call("about")[0]), time.monotonic()
        addresses = list(own.addresses[:MOST_ADDRESSES])
        call("beat", addresses, own.certificate, own.receipt_key, own.version, Jsonb(report))
        took_s = time.monotonic() - begun
        changes, lag_s = call("overview")[0]
        rows = tuple(row for (row,) in call("list_brokers"))
        return _Answer(time.monotonic(), took_s, standing, lag_s, int(changes), rows)


def _wait_for_none(db: psycopg.Connection[Any]) -> None:
    db.execute("SET synchronous_commit = 'local'")


def _broker(row: _Row, later_s: float) -> FleetBrokerReport:
    """Parse a row, possibly written by another version or by an attacker."""
    report = _report(row["report"])
    sources = report.get("sources")
    return FleetBrokerReport(
        name=_text(row["name"]),
        seen_s=float(row["age_s"]) + later_s,
        addresses=tuple(map(_text, row["addresses"])),
        version=_text(row["version"]),
        certificate=_text(row["certificate"]),
        ready=report.get("ready") is True,
        not_ready_because=_text(report.get("not_ready_because", "")),
        sources=tuple(map(_source, sources[:_MOST_SOURCES] if isinstance(sources, list) else ())),
        sessions=_whole(report, "sessions"),
        leases=_whole(report, "leases"),
        leased_bytes=_whole(report, "leased_bytes"),
        unread_changes=_whole(report, "unread_changes"),
    )


def _report(text: str) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):  # numbers of any length, nesting of any depth
        return {}
    return report if isinstance(report, dict) else {}


def _source(source: Any) -> FleetSourceReport:
    fields = source if isinstance(source, dict) else {}
    name, kind, state, device = (_text(fields.get(key, "")) for key in ("name", "kind", "state", "device"))
    return FleetSourceReport(name, kind, state, fields.get("simulated") is True, device)


def _text(value: object) -> str:
    """Return another broker's text with unprintable characters replaced."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:_LONGEST])


def _whole(report: _Row, key: str) -> int:
    value = report.get(key)
    return value if type(value) is int and 0 <= value < _BEYOND else 0
