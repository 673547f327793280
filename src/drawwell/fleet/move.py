"""Move a single broker's consumers into the store of its fleet."""

from typing import Any, Final

import psycopg

from drawwell.entropy.quota import QuotaState
from drawwell.fleet.store import consumer_json
from drawwell.state.rows import ConsumerRow
from drawwell.state.store import Store

_US: Final = 10**6
_CERTIFICATE: Final = (
    "INSERT INTO drawwell.certificates VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
_LEASE: Final = (
    "INSERT INTO drawwell.lease (consumer, ends_us, period_us, granted) VALUES (%s, %s, %s, %s)"
    " ON CONFLICT DO NOTHING"
)
_INVITATION: Final = "INSERT INTO drawwell.invitations VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
_SEED: Final = "INSERT INTO drawwell.seeds VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"


def move_consumers(store: Store, owner: psycopg.Connection[Any]) -> int:
    """Copy consumers that the fleet does not have; return their number.

    Reserved bytes count as granted, and pending invitations remain valid. The fleet's epochs
    continue above those of this broker, so no serial number is used twice.

    Raises:
        StateUnavailable: the broker's own store cannot be read.
        psycopg.Error: the fleet's store refused; nothing has changed.
    """
    moved = 0
    with owner.transaction():
        for consumer in store.consumers().values():
            moved += _move(store, owner, consumer)
        for seed in store.seeds():
            owner.execute(_SEED, (seed.machine, seed.count, seed.written_at, seed.serial))
        owner.execute("UPDATE drawwell.fleet SET epoch = greatest(epoch, %s)", (store.boot_epoch,))
    return moved


def _move(store: Store, owner: psycopg.Connection[Any], consumer: ConsumerRow) -> int:
    found = owner.execute("SELECT 1 FROM drawwell.consumers WHERE name = %s", (consumer.name,)).fetchone()
    if found:
        return 0
    owner.execute("SELECT drawwell.put_consumer(%s)", (consumer_json(consumer),))
    for each in store.certificates(consumer.name).values():
        values = (each.spki, each.consumer, each.serial, each.not_after, each.revoked_at, each.earlier_end)
        owner.execute(_CERTIFICATE, values)
    for new in store.pending_invitations(consumer.name):
        owner.execute(
            _INVITATION, (new.id, new.consumer, new.secret_hash, new.created, new.expires, new.status)
        )
    state = store.leased(consumer.name)
    if state and state.period_s:
        owner.execute(_LEASE, (consumer.name, *_lease(state)))
    return 1


def _lease(state: QuotaState) -> tuple[int, int, int]:
    """Return the end of a period, its length in microseconds, and its grant."""
    period_us = round(state.period_s * _US)
    return (state.period + 1) * period_us, period_us, state.reserved_bytes
