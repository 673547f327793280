"""What the doctor looks at round a broker: where it keeps its state, where it listens, and what was joined."""

import contextlib
import errno
import os
import shutil
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.config.values import HostPort
from drawwell.errors import DrawwellError, Refused, StateUnavailable
from drawwell.host.virtual import VirtualFacts
from drawwell.units import format_duration, format_size

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.links.identity import LinkIdentity

SMALL_BYTES = 1 << 20
"""The state of a broker with a thousand consumers is smaller."""
ANSWER_S = 3.0


def state(config: "Config") -> Iterator[DoctorFinding]:
    """May the state be written, and is there room for it?"""
    wanted = config.broker.state_dir
    there = wanted
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.access(there, os.W_OK | os.X_OK):
        yield DoctorFinding(
            "problem", "state", f"{there} may not be written by user {os.geteuid()}",
            "Run as its owner, or set state_dir in [broker] to a directory of your own.",
        )  # fmt: skip
        return
    free = shutil.disk_usage(there).free
    if free < SMALL_BYTES:
        yield DoctorFinding(
            "problem", "state", f"only {format_size(free)} free for {wanted}",
            f"Make room: look at 'df {there}'. Nothing is served that cannot be written down first.",
        )  # fmt: skip


def refusals(config: "Config") -> Iterator[DoctorFinding]:
    """Report what a run would refuse, to root and to the user whom the state belongs to."""
    from drawwell.roles.runnable import require_runnable

    state = config.broker.state_dir
    if os.geteuid() and os.path.exists(state) and os.stat(state).st_uid != os.geteuid():
        return
    try:
        require_runnable(config)
    except DrawwellError as error:
        yield DoctorFinding("problem", "configuration", str(error), error.hint or "")


def others() -> Iterator[DoctorFinding]:
    """The vendor's package, rng-tools and their kin: which is installed, holds a device or feeds the kernel."""
    from drawwell.cli.doctor.other_programs import rivals

    for each in rivals():
        hint = "Take its settings over: 'drawwell migrate'. It is left alone; remove it when drawwell does its work."
        yield DoctorFinding(
            "problem" if each.holds else "note", each.package or each.program, each.words, hint
        )


def copies(config: "Config", machine: VirtualFacts) -> Iterator[DoctorFinding]:
    """Would a broker here learn that its machine was copied?"""
    if not (config.serves and machine.virtual):
        return
    if not machine.generation_id:
        yield DoctorFinding(
            "note", "copies",
            "this is a virtual machine without a generation ID: of two that are restored from one snapshot neither "
            "the kernel nor drawwell learns, and they can repeat each other",
            "Give it one (QEMU: -device vmgenid,guid=auto) and Linux 5.18 or later, or take no snapshots of it.",
        )  # fmt: skip
    elif not machine.log_readable:
        yield DoctorFinding(
            "note", "copies",
            f"this is a virtual machine with a generation ID, but user {os.geteuid()} may not read the kernel's log: "
            "that it was copied is heard only of kernels that send a uevent",
            "The package's units hand the log to the broker; without them run it as root or with CAP_SYSLOG.",
        )  # fmt: skip
    else:
        yield DoctorFinding(
            "good", "copies", "this is a virtual machine with a generation ID: copies of it are noticed"
        )


def ports(config: "Config") -> Iterator[DoctorFinding]:
    """Are the ports free on which a broker is to listen, and will they be at the next start?"""
    wanted = {"tls": config.tls.listen, "enrol": config.enrol.listen, "health": config.health.listen}
    for name, address in wanted.items():
        if isinstance(address, HostPort) and not reserved(address.port):
            yield DoctorFinding(
                "note", f"door {name}",
                f"Linux hands port {address.port} out to outgoing connections: one of them may hold it at a start",
                f"Keep it back: add {address.port} to net.ipv4.ip_local_reserved_ports in /etc/sysctl.d.",
            )  # fmt: skip
        if isinstance(address, HostPort) and (why := _taken(address)):
            yield DoctorFinding(
                "problem", f"door {name}", f"cannot listen on {address}: {why}",
                f"See who does with 'ss -ltnp sport = :{address.port}', or set another listen in [{name}].",
            )  # fmt: skip


def reserved(port: int, root: str = "/") -> bool:
    """Is a port out of the range of outgoing connections, or kept back from them?"""
    try:
        low, high = _sysctl(root, "ip_local_port_range").split()
        kept = _sysctl(root, "ip_local_reserved_ports").strip()
    except (OSError, ValueError):
        return True
    if not int(low) <= port <= int(high):
        return True
    spans = (span.partition("-") for span in kept.split(",") if span)
    return any(int(first) <= port <= int(last or first) for first, _, last in spans)


def _sysctl(root: str, name: str) -> str:
    with open(os.path.join(root, "proc/sys/net/ipv4", name), encoding="ascii") as file:
        return file.read()


def _taken(address: HostPort) -> str:
    family = socket.AF_INET6 if ":" in address.host or address.host in {"", "*"} else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("" if address.host == "*" else address.host, address.port))
            probe.listen(1)
    except OSError as error:
        return "" if error.errno == errno.EAFNOSUPPORT else (error.strerror or str(error)).lower()
    return ""


def links(config: "Config") -> Iterator[DoctorFinding]:
    """The brokers that this machine joined: certificates, and whether they answer."""
    from drawwell.links.identity import LINKS, load_all

    directory = os.path.join(config.broker.state_dir, LINKS)
    try:
        identities = load_all(directory)
    except (StateUnavailable, OSError) as error:
        yield DoctorFinding("problem", "joined", str(error), getattr(error, "hint", "") or "")
        return
    for identity in identities:
        yield _link(identity, directory)
        with contextlib.suppress(StateUnavailable):
            if note := identity.clock_note(time.time()):
                name = f"joined {os.path.basename(identity.directory)}"
                yield DoctorFinding("problem", name, note, "Compare both clocks, then run 'drawwell renew'.")


def _link(identity: "LinkIdentity", directory: str) -> DoctorFinding:
    import asyncio

    from drawwell.roles.upstream import named

    name = f"joined {os.path.basename(identity.directory)}"
    upstream = named(identity.directory, directory)

    async def ask() -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await upstream.call("status", {})
        finally:
            await upstream.aclose()

    try:
        left_s = identity.expires() - time.time()
        asyncio.run(ask())
    except Refused as error:
        return DoctorFinding("note", name, str(error), error.hint or "")
    except DrawwellError as error:
        return DoctorFinding("problem", name, str(error), error.hint or "")
    except TimeoutError:
        return DoctorFinding(
            "problem", name, f"no answer within {ANSWER_S:g} s", "Look at the network between."
        )
    return DoctorFinding(
        "good", name,
        f"broker {identity.broker} answers {identity.consumer}; certificate for {format_duration(left_s)} more",
    )  # fmt: skip
