"""``drawwell signer run``: run the process with the CA and receipt keys."""

import argparse
import os
from typing import Any

from drawwell.cli.output import Output
from drawwell.cli.run import add_options, run_until_stopped, set_up_logging


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "signer", help="run the signer, which holds the CA and receipt keys", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = verbs.add_parser(
        "run", parents=[common], allow_abbrev=False,
        help="sign for this machine's broker until Ctrl-C",
        epilog="The signer accepts requests from the broker's user and root on the socket in [signer]. It never "
            "uses the network. Only 'drawwell broker run' uses the signer. 'drawwell run', and 'drawwell broker' "
            "without 'run', keep the keys in their own process.",
    )  # fmt: skip
    add_options(run)
    run.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.host.memory import lock_memory
    from drawwell.roles.signer_process import SignerProcess, SignerRole
    from drawwell.service.systemd import Manager
    from drawwell.state.files import make_private_directory

    set_up_logging(verbose=args.verbose, quiet=out.quiet)
    if note := lock_memory():
        out.say(note)
    config = load(args.config)
    make_private_directory(config.signer.dir)
    role = SignerRole(config.signer.dir, config.broker.name)
    return run_until_stopped(SignerProcess(role, config.signer.socket, Manager(os.environ)).run, out)
