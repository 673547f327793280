"""Starting with a state restored from a backup.

Events after the backup are unknown, so all that must not happen twice counts as done.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from drawwell.entropy.quota import QuotaState
from drawwell.errors import UsageError
from drawwell.state.rows import PENDING, VOID
from drawwell.state.store import Store
from drawwell.units import Allowance

EPOCHS_SINCE_S: Final = 1_577_836_800.0
"""2020-01-01: older than any state."""
HOUR_S: Final = 3600.0
START_EVERY_S: Final = 10.0
"""The assumed minimum average time between starts of the broker since the backup."""
MAX_EPOCH: Final = 2**23 - 1
"""Serial numbers are the epoch times 2^40 and fit in 63 bits."""


def restore(store: Store, quotas: Mapping[str, Allowance | None], now: float) -> int:
    """Begin a new epoch that the lost state cannot have reached; return it.

    Pending invitations become void, first-boot seeds count as written, and the consumers'
    `quotas` count as spent for the current period.

    Raises:
        UsageError: the backup is too old.
        StateUnavailable: the state cannot be written; nothing has changed.
    """
    backup_at = min(store.time_seen, now)
    # the lost state may itself have been restored from the same backup, right after the backup
    least = max(store.boot_epoch, int((backup_at - EPOCHS_SINCE_S) / HOUR_S))
    epoch = least + int((now - backup_at) / START_EVERY_S) + 1
    if epoch > MAX_EPOCH:
        raise UsageError("the backup is too old to continue its serial numbers", hint="Restore a newer one.")
    spent = [(name, json.dumps(asdict(_spent(quota, now)))) for name, quota in quotas.items()]
    with store.transaction() as db:
        db.execute("UPDATE invitations SET status = ? WHERE status = ?", (VOID, PENDING))
        db.executemany("INSERT OR REPLACE INTO quota VALUES (?, ?)", spent)
        facts = {"boot_epoch": epoch, "restored_at": now, "time_seen": now}
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())
    return epoch


def _spent(quota: Allowance | None, now: float) -> QuotaState:
    """Return the state of a used-up quota, or of a rate with an empty bucket."""
    if quota is None:
        return QuotaState()
    return QuotaState(int(now // quota.period_s), quota.period_s, quota.limit_bytes)
