"""``drawwell guest``: serve random bytes to this host's guests."""

import argparse
from typing import Any

from drawwell.cli.output import Output

_KINDS = (
    "qemu", "libvirt", "lxc", "incus", "docker", "podman", "proxmox", "nspawn", "firecracker",
)  # fmt: skip
_WAYS = ("virtio", "usb-virtual", "usb", "socket", "device", "fifo", "builtin")
_ALLOWANCE = "such as 1KiB/s or 1MiB/day"
_EPILOG = """\
Each guest is a consumer with its own rate, quota and account, shown by 'drawwell guest list'.
Virtual machines (qemu, libvirt, proxmox) get virtio-rng by default; containers (lxc, incus, docker, podman, nspawn)
and firecracker get a socket.
"""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    noun = nouns.add_parser(
        "guest", help="set up virtual machines and containers as consumers",
        allow_abbrev=False, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    verbs = noun.add_subparsers(metavar="VERB", dest="verb", required=True)

    def verb(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(
            name, parents=[common], help=summary, allow_abbrev=False
        )
        parser.set_defaults(run=run)
        return parser

    plan = verb("plan", _plan, "show the changes that 'apply' would make; needs no broker")
    apply = verb("apply", _apply, "show the plan and apply it; it is safe to repeat this command")
    verify = verb("verify", _verify, "check from inside the guest that it draws from this broker")
    for parser in (plan, apply, verify):
        _add_kind(parser)
        _add_guest(parser)
    for parser in (plan, apply):
        _add_terms(parser)
        _add_seed(parser)
    _add_apply(apply)
    _add_timeout(verify, 20.0, "longest time for a read in the guest")
    reseed = verb("reseed", _reseed, "reseed a cloned or restored guest")
    reseed.set_defaults(via=None, device=None)
    _add_name(reseed)
    _add_timeout(reseed, 30.0, "longest time to wait for the guest to become reachable")
    audit = verb(
        "audit", _audit, "check virtio-rng, backends, limits and generation IDs of all guests on this host"
    )
    audit.add_argument(
        "kind", nargs="?", metavar="KIND", choices=_KINDS, help=f"check only this kind: {', '.join(_KINDS)}"
    )
    _add_where(audit)
    verb("list", _list, "list the broker's guests with their limits and accounts")


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", choices=_KINDS, help=f"guest software: {', '.join(_KINDS)}")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the guest: a-z, 0-9, dot, _ and -")
    parser.add_argument("--domain", metavar="DOMAIN", help="the guest's own name on the host (default: NAME)")
    _add_where(parser)


def _add_guest(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--via", metavar="WAY", choices=_WAYS, help=f"connection type: {', '.join(_WAYS)}")
    parser.add_argument("--device", metavar="DEVICE", help="with --via usb or device: the OneRNG to use")


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connect", metavar="WHERE", default="",
        help="address of the guest software: a QMP socket, a libvirt URI, LXC's directory, the socket of Incus, "
            "Docker or Podman, or the uds_path of Firecracker's vsock",
    )  # fmt: skip


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rate", metavar="RATE", help=f'maximum rate, {_ALLOWANCE}; "none" removes the limit'
    )
    parser.add_argument(
        "--quota",
        metavar="TOTAL",
        help=f'maximum total per period, {_ALLOWANCE}; "none" removes the limit',
    )
    parser.add_argument(
        "--class",
        dest="draw_class",
        choices=["full", "drbg"],
        help="class of bytes for the guest (default: full)",
    )


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", action=argparse.BooleanOptionalAction,
        help="add a seed for the first boot as cloud-init data; --no-seed removes it afterwards",
    )  # fmt: skip


def _add_apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remove", action="store_true", help="undo 'apply': first on the host, then at the broker"
    )
    parser.add_argument(
        "--user", metavar="USER", help="user that may connect to the guest's socket (default: detected)"
    )
    parser.add_argument("--new", action="store_true", help="allow a guest that does not exist yet")
    parser.add_argument("--yes", action="store_true", help="skip the confirmation prompt")
    _add_timeout(parser, 30.0, "longest wait of --remove for bytes owed to the guest, then exit code 75")


def _add_timeout(parser: argparse.ArgumentParser, default_s: float, what: str) -> None:
    parser.add_argument("--timeout", metavar="TIME", help=f"{what} (default: {default_s:g}s)")
    parser.set_defaults(default_timeout_s=default_s)


def _plan(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import read_configuration
    from drawwell.cli.guest.apply import planned
    from drawwell.cli.guest.arguments import asked
    from drawwell.cli.guest.text import plan_text
    from drawwell.reports import as_json

    if asked(args, "status") is None:
        read_configuration(args, out)
    with out.working(f"checking {args.name}"):
        plan = planned(args)
    out.result(as_json(plan), plan_text(plan))
    return 0


def _apply(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.apply import apply, remove

    return remove(args, out) if args.remove else apply(args, out)


def _verify(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.verify import verify

    with out.working(f"checking inside {args.name}"):
        return verify(args, out)


def _reseed(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.reseed import reseed

    with out.working(f"waiting for {args.name}"):
        return reseed(args, out)


def _audit(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.guest.verify import audit

    with out.working("checking the guests"):
        return audit(args, out)


def _list(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call
    from drawwell.cli.guest.text import guests_text

    result = call(args, "guest.list", {})
    out.result(result, guests_text(result["guests"], out.style))
    return 0
