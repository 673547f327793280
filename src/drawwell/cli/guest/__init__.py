"""``drawwell guest``: bytes for the virtual machines and containers of this host, one code path for all kinds."""

import argparse
from typing import Any

from drawwell.cli.output import Output

_KINDS = (
    "qemu", "libvirt", "lxc", "incus", "docker", "podman", "proxmox", "nspawn", "firecracker",
)  # fmt: skip
_WAYS = ("virtio", "usb-virtual", "usb", "socket", "device", "fifo", "builtin")
_ALLOWANCE = "such as 1KiB/s or 1MiB/day"
_EPILOG = """\
A guest is a consumer of its own, with a rate, a quota and an account: 'drawwell guest list'.
Machines (qemu, libvirt, proxmox) get virtio-rng unless --via names another way; containers (lxc, incus, docker, podman,
nspawn) and firecracker get a socket.
"""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    noun = nouns.add_parser(
        "guest", help="give virtual machines and containers their own bytes: plan, apply, verify, audit",
        allow_abbrev=False, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verbs = noun.add_subparsers(metavar="VERB", dest="verb", required=True)

    def verb(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(
            name, parents=[common], help=summary, description=summary, allow_abbrev=False
        )
        parser.set_defaults(run=run)
        return parser

    plan = verb("plan", _plan, "print what would be written for a guest; touches nothing and needs no broker")
    apply = verb("apply", _apply, "show the plan and do it; the second time nothing is changed")
    verify = verb(
        "verify", _verify, "look from inside the guest: is it drawing from this broker, is it healthy"
    )
    for parser in (plan, apply, verify):
        _add_kind(parser)
        _add_guest(parser)
    for parser in (plan, apply):
        _add_terms(parser)
    _add_apply(apply)
    _add_timeout(verify, 20.0, "how long a read in the guest may take")
    reseed = verb(
        "reseed", _reseed, "give a guest that was cloned or restored fresh bytes, and make it reseed"
    )
    reseed.set_defaults(via=None, device=None)
    _add_name(reseed)
    _add_timeout(reseed, 30.0, "how long the guest may take until it can be reached")
    audit = verb(
        "audit", _audit, "look at every guest on this host: virtio-rng, what feeds it, limits, generation id"
    )
    audit.add_argument(
        "kind", nargs="?", metavar="KIND", choices=_KINDS, help=f"only these: {', '.join(_KINDS)}"
    )
    _add_where(audit)
    verb("list", _list, "list the guests of the running broker with their terms and accounts")


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", choices=_KINDS, help=f"what runs it: {', '.join(_KINDS)}")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the guest's name: a-z, 0-9, dot, _ and -")
    parser.add_argument("--domain", metavar="DOMAIN", help="what the host's software calls it, when not NAME")
    _add_where(parser)


def _add_guest(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--via", metavar="WAY", choices=_WAYS, help=f"the way in: {', '.join(_WAYS)}")
    parser.add_argument(
        "--device", metavar="DEVICE", help="which stick, when there are several and the way in gives one away"
    )


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect", metavar="WHERE", default="",
        help="where the host's software answers, when not as usual: a QMP socket, a libvirt URI, LXC's directory, the "
        "socket of Incus, Docker or Podman; for firecracker the uds_path of its vsock",
    )  # fmt: skip


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", metavar="RATE", help=f"how fast it may draw, {_ALLOWANCE}; none lifts it")
    parser.add_argument(
        "--quota", metavar="TOTAL", help=f"how much in each period, {_ALLOWANCE}; none lifts it"
    )
    parser.add_argument(
        "--class",
        dest="draw_class",
        choices=["full", "drbg"],
        help="the class that it is served (default: full)",
    )


def _add_apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remove", action="store_true", help="undo it: the host's side first, then the broker's"
    )
    parser.add_argument(
        "--user", metavar="USER", help="who is let in at its socket, where that cannot be known"
    )
    parser.add_argument(
        "--new", action="store_true", help="the guest is made or started later: it need not be known yet"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask, on a terminal either")
    _add_timeout(parser, 30.0, "how long --remove waits for bytes that are owed; then it refuses with 75")


def _add_timeout(parser: argparse.ArgumentParser, default_s: float, what: str) -> None:
    parser.add_argument("--timeout", metavar="TIME", help=f"{what} (default: {default_s:g}s)")
    parser.set_defaults(default_timeout_s=default_s)


def _plan(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.apply import planned
    from drawwell.cli.guest.text import plan_text
    from drawwell.reports import as_json

    plan = planned(args)
    out.result(as_json(plan), plan_text(plan))
    return 0


def _apply(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.apply import apply, remove

    return remove(args, out) if args.remove else apply(args, out)


def _verify(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.verify import verify

    with out.working(f"looking from inside {args.name}"):
        return verify(args, out)


def _reseed(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.reseed import reseed

    with out.working(f"waiting for {args.name}"):
        return reseed(args, out)


def _audit(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.verify import audit

    with out.working("looking at the guests"):
        return audit(args, out)


def _list(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call
    from drawwell.cli.guest.text import guests_text

    result = call(args, "guest.list", {})
    out.result(result, guests_text(result["guests"], out.style))
    return 0
