"""``drawwell restore``: resume from a backup of the state."""

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
    parser = nouns.add_parser(
        "restore", parents=[common], help="resume from a backup of the state", allow_abbrev=False,
        epilog="Copy the backup into the state directory, run this command as root or the broker's user, then "
            "start the broker. New serial numbers are higher than all earlier ones. Pending invitations become "
            "invalid, all seeds count as issued, and all quotas count as used up.",
    )  # fmt: skip
    parser.add_argument(
        "--revoke", nargs="+", default=[], metavar="NAME", help="consumers that were revoked after the backup"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.errors import StateUnavailable
    from drawwell.host.clock import clock_is_set

    config, now = load(args.config), time.time()
    if not clock_is_set():
        raise StateUnavailable("this machine's clock is not set", hint="Set the clock, then run this again.")
    document = _restore(config, args.revoke, now, out)
    names = ", ".join(document["consumers"]) or "none"
    out.result(document, f"epoch {document['epoch']}; invited consumers that may draw: {names}")
    shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(document["backup_at"]))
    out.say(
        f"the backup is from {shown}: before you start the broker, revoke all consumers that were revoked since then"
    )
    return 0


def _restore(config: "Config", revoke: list[str], now: float, out: Output) -> dict[str, Any]:
    """Resume from the backup and record that in the operators' audit log."""
    import drawwell.broker.identities  # noqa: F401  before the rights are dropped, which Python's files may need
    from drawwell.broker.audit_log import AuditLog
    from drawwell.errors import StateUnavailable, UsageError
    from drawwell.ownership import rights_of_owner
    from drawwell.state.restore import restore
    from drawwell.state.store import Store

    path = os.path.join(config.broker.state_dir, "broker.db")
    with rights_of_owner(path):
        if not os.path.exists(path):
            raise StateUnavailable(
                f"{path} does not exist", hint="Copy the backup into the state directory first."
            )
        with contextlib.closing(Store(path)) as store:
            backup_at = store.time_seen
            if unknown := set(revoke) - store.consumers().keys():
                raise UsageError(
                    f"not in the backup: {', '.join(sorted(unknown))}", hint="Remove these names."
                )
            epoch = restore(store, _quotas(config, store), now)
            for name in revoke:
                store.revoke(name, now)
            admitted = [name for name, row in store.consumers().items() if row.revoked_at is None]
            document = {"epoch": epoch, "backup_at": backup_at, "revoked": revoke}
            with contextlib.closing(AuditLog(config.audit.operators_path, lambda: now)) as log:
                log.write([{"event": "restored", **document}])
                if log.fault:
                    out.say(f"cannot write to the audit log: {log.fault}")
    return document | {"consumers": admitted}


def _quotas(config: "Config", store: "Store") -> "dict[str, Allowance | None]":
    """Return the quota of each consumer that has a rate or a quota."""
    from drawwell.broker.identities import matched_terms

    rows = [*store.consumers().values(), *(row.consumer for row in store.guests().values())]
    limits = {row.name: (row.rate, row.quota) for row in rows}
    limits |= {each.name: (each.rate, each.quota) for each in config.consumers if each.name}
    for name in store.all_leased():
        if terms := matched_terms(config, name):
            limits[name] = (terms.rate, terms.total)
    return {name: quota for name, (rate, quota) in limits.items() if rate or quota}
