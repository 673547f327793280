"""``drawwell restore``: start over with a state from a backup."""

import argparse
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.state.store import Store
    from drawwell.units import Allowance


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add ``restore``."""
    parser = nouns.add_parser(
        "restore", parents=[common], help="start over with a state that comes from a backup", allow_abbrev=False,
        epilog="Put the backup in place, run this as root or the broker's user, then start the broker. New serial "
        "numbers are higher than all granted ones, pending invitations become void, seeds count as given, quotas "
        "as spent.",
    )  # fmt: skip
    parser.add_argument(
        "--revoke", nargs="+", default=[], metavar="NAME", help="consumers that were revoked since the backup"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.errors import StateUnavailable
    from drawwell.host.clock import clock_is_set

    config, now = load(args.config), time.time()
    if not clock_is_set():
        raise StateUnavailable("this machine's clock is not set", hint="Set it, then run this command again.")
    document = _restore(config, args.revoke, now, out)
    names = ", ".join(document["consumers"]) or "none"
    out.result(document, f"epoch {document['epoch']}; consumers that were invited and may draw: {names}")
    shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(document["backup_at"]))
    out.say(
        f"the backup is from {shown}: before the broker starts, revoke the consumers that were revoked since then"
    )
    return 0


def _restore(config: "Config", revoke: list[str], now: float, out: Output) -> dict[str, Any]:
    """Start over with a state, and write that to the operators' audit log."""
    from drawwell.broker.audit_log import AuditLog
    from drawwell.errors import StateUnavailable, UsageError
    from drawwell.ownership import rights_of_owner
    from drawwell.state.restore import restore
    from drawwell.state.store import Store

    path = os.path.join(config.broker.state_dir, "broker.db")
    with rights_of_owner(path):
        if not os.path.exists(path):
            raise StateUnavailable(
                f"there is no {path}", hint="Put the backup of the state directory in place first."
            )
        with contextlib.closing(Store(path)) as store:
            backup_at = store.time_seen
            if unknown := set(revoke) - store.consumers().keys():
                raise UsageError(
                    f"the backup has no consumer {', '.join(sorted(unknown))}", hint="Leave it out."
                )
            epoch = restore(store, _quotas(config, store), now)
            for name in revoke:
                store.revoke(name, now)
            admitted = [name for name, row in store.consumers().items() if row.revoked_at is None]
            document = {"epoch": epoch, "backup_at": backup_at, "revoked": revoke}
            with contextlib.closing(AuditLog(config.audit.operators_path, lambda: now)) as log:
                log.write([{"event": "restored", **document}])
                if log.fault:
                    out.say(f"the audit log cannot be written: {log.fault}")
    return document | {"consumers": admitted}


def _quotas(config: "Config", store: "Store") -> "dict[str, Allowance | None]":
    """Return the quota of each consumer that has one, or a rate."""
    rows = [*store.consumers().values(), *(row.consumer for row in store.guests().values())]
    limits = {row.name: (row.rate, row.quota) for row in rows}
    limits |= {each.name: (each.rate, each.quota) for each in config.consumers}
    return {name: quota for name, (rate, quota) in limits.items() if rate or quota}
