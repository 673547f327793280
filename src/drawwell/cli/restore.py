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
        epilog="Put the backup in place, run this as the broker's user, then start the broker. New serial numbers are "
        "higher than all granted ones, pending invitations become void, seeds count as given, quotas as spent.",
    )  # fmt: skip
    parser.add_argument(
        "--revoke", nargs="+", default=[], metavar="NAME", help="consumers that were revoked since the backup"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.errors import StateUnavailable, UsageError
    from drawwell.host.clock import clock_is_set
    from drawwell.state.restore import restore
    from drawwell.state.store import Store

    config, now = load(args.config), time.time()
    path = os.path.join(config.broker.state_dir, "broker.db")
    if not os.path.exists(path):
        raise StateUnavailable(
            f"there is no {path}", hint="Put the backup of the state directory in place first."
        )
    if not clock_is_set():
        raise StateUnavailable("this machine's clock is not set", hint="Set it, then run this command again.")
    with contextlib.closing(Store(path)) as store:
        backup_at = store.time_seen
        if unknown := set(args.revoke) - store.consumers().keys():
            raise UsageError(f"the backup has no consumer {', '.join(sorted(unknown))}", hint="Leave it out.")
        epoch = restore(store, _quotas(config, store), now)
        for name in args.revoke:
            store.revoke(name, now)
        admitted = [name for name, row in store.consumers().items() if row.revoked_at is None]
    shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(backup_at))
    document = {"epoch": epoch, "backup_at": backup_at, "consumers": admitted, "revoked": args.revoke}
    out.result(
        document, f"epoch {epoch}; consumers that were invited and may draw: {', '.join(admitted) or 'none'}"
    )
    out.say(
        f"the backup is from {shown}: before the broker starts, revoke the consumers that were revoked since then"
    )
    return 0


def _quotas(config: "Config", store: "Store") -> "dict[str, Allowance | None]":
    """Return the quota of each consumer that has one, or a rate."""
    rows = [*store.consumers().values(), *(row.consumer for row in store.guests().values())]
    limits = {row.name: (row.rate, row.quota) for row in rows}
    limits |= {each.name: (each.rate, each.quota) for each in config.consumers}
    return {name: quota for name, (rate, quota) in limits.items() if rate or quota}
