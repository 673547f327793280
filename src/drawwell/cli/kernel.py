"""``drawwell kernel``: feed this machine's kernel from a separate process.

The process has CAP_SYS_ADMIN, so it loads as little code as possible (law 10).
"""

import argparse
import os
import sys
from typing import Any

from drawwell.cli.output import Output
from drawwell.cli.run import add_options, idle, run_until_stopped, set_up_logging
from drawwell.errors import Starved

LOOK_EVERY_S = 0.2


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "kernel", help="feed this machine's kernel from a separate process", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = verbs.add_parser(
        "run", parents=[common], allow_abbrev=False,
        help="feed this kernel from this machine's broker or link until Ctrl-C; needs CAP_SYS_ADMIN",
        epilog="The command draws from draw.sock, or from link.sock if there is an [[upstream]], and never uses the "
            "network.",
    )  # fmt: skip
    add_options(run)
    run.set_defaults(run=_run)
    wait = verbs.add_parser(
        "wait", parents=[common], allow_abbrev=False, help="wait until the kernel has been fed once",
        epilog="Exit codes: 0 fed, 75 timeout.",
    )  # fmt: skip
    wait.add_argument(
        "--timeout", metavar="TIME", help="longest time to wait, such as 90s (default: no limit)"
    )
    wait.set_defaults(run=_wait)


def _run(args: argparse.Namespace, out: Output) -> int:
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # asyncio works without ssl
    from drawwell.config.load import load
    from drawwell.roles.kernel_process import Feeder
    from drawwell.service.systemd import Manager
    from drawwell.sinks.kernel import require_privilege

    set_up_logging(verbose=args.verbose, quiet=out.quiet)
    manager = Manager(os.environ)
    config = load(args.config)
    if not config.feeds_apart and manager.listens:
        return idle(manager, out, f"nothing to feed: [kernel] feed is false ({config.origin('kernel.feed')})")
    require_privilege()
    return run_until_stopped(Feeder(config, manager).run, out)


def _wait(args: argparse.Namespace, out: Output) -> int:
    import time

    from drawwell.config.load import load
    from drawwell.roles.kernel_process import read_report
    from drawwell.units import parse_duration

    path = load(args.config).broker.feed_report
    deadline = time.monotonic() + (parse_duration(args.timeout) if args.timeout else float("inf"))
    while not ((report := read_report(path)) and report["sink"].get("deliveries")):
        if time.monotonic() >= deadline:
            raise Starved(
                "the kernel was not fed before the timeout",
                hint="See 'drawwell status' and 'systemctl status drawwell-kernel'.",
            )
        time.sleep(LOOK_EVERY_S)
    out.result({"sink": report["sink"]}, f"fed: {report['sink']['delivered_bytes']} bytes")
    return 0
