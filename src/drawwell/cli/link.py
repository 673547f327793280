"""``drawwell link run``: the links to brokers elsewhere, in a process of their own."""

import argparse
import os
from typing import Any

from drawwell.cli.output import Output
from drawwell.cli.run import add_options, idle, run_until_stopped, set_up_logging


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun and its verb."""
    parser = nouns.add_parser(
        "link", help="the links to other machines' brokers, as a process of their own", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = verbs.add_parser(
        "run", parents=[common], allow_abbrev=False,
        help="draw from every [[upstream]] for this machine, until Ctrl-C; needs no privilege",
        epilog="It serves link.sock in run_dir to 'drawwell kernel run', to root and to its own user, and keeps the "
        "certificates renewed.",
    )  # fmt: skip
    add_options(run)
    run.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.host.openssl import require_post_quantum
    from drawwell.roles.link_process import LinkProcess
    from drawwell.service.systemd import Manager

    set_up_logging(verbose=args.verbose, quiet=out.quiet)
    manager = Manager(os.environ)
    config = load(args.config)
    if not config.upstreams and manager.listens:
        return idle(manager, out, "nothing to link to: no [[upstream]]")
    if config.tls.require_pq:
        require_post_quantum()
    return run_until_stopped(LinkProcess(config, manager).run, out)
