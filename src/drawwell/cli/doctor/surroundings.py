"""The doctor's checks of the broker's state directory, ports and links."""

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
from drawwell.errors import DrawwellError, LinkUnavailable, Refused, StateUnavailable
from drawwell.host.virtual import VirtualFacts
from drawwell.units import format_duration, format_size

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.links.identity import LinkIdentity

SMALL_BYTES = 1 << 20
"""The least free space: more than a broker with a thousand consumers needs."""
ANSWER_S = 3.0


def state(config: "Config") -> Iterator[DoctorFinding]:
    """Check that the state directory is writable and has free space."""
    wanted = config.broker.state_dir
    there = wanted
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.access(there, os.W_OK | os.X_OK):
        yield DoctorFinding(
            "problem", "state", f"user {os.geteuid()} may not write to {there}",
            "Run the command as the directory's owner, or set state_dir in [broker] to your own directory.",
        )  # fmt: skip
        return
    free = shutil.disk_usage(there).free
    if free < SMALL_BYTES:
        yield DoctorFinding(
            "problem", "state", f"only {format_size(free)} are free for {wanted}",
            f"Free some space (see 'df {there}'), because drawwell records each draw before it serves it.",
        )  # fmt: skip


def refusals(config: "Config") -> Iterator[DoctorFinding]:
    """Report why ``drawwell run`` would not start, if this user may run it."""
    from drawwell.roles.runnable import require_runnable

    state = config.broker.state_dir
    if os.geteuid() and os.path.exists(state) and os.stat(state).st_uid != os.geteuid():
        return
    try:
        require_runnable(config)
    except DrawwellError as error:
        yield DoctorFinding.of_error("configuration", error)


def others(config: "Config | None") -> Iterator[DoctorFinding]:
    """Report the vendor's package, rng-tools and similar programs."""
    from drawwell.cli.doctor.other_programs import IMPORTED, KEEP, in_the_way, readers, rivals

    needed = readers(config)
    for each in in_the_way(rivals(), needed):
        hint, command = "Remove the program when drawwell is set up.", ""
        if each.program in needed:
            hint = f"{KEEP.capitalize()}."
        elif each.program in IMPORTED:
            command = "drawwell migrate"
            hint = f"Import its settings with '{command}'. {hint}"
        level = "problem" if each.holds else "note"
        yield DoctorFinding(level, each.package or each.program, each.text, hint, command)


def copies(config: "Config", machine: VirtualFacts) -> Iterator[DoctorFinding]:
    """Check whether the broker can detect that its machine was cloned."""
    if not (config.serves and machine.virtual):
        return
    if not machine.generation_id:
        yield DoctorFinding(
            "note", "copies",
            "this virtual machine has no generation ID. If two machines are restored from one snapshot, neither "
            "the kernel nor drawwell detects this, and both machines can produce the same bytes",
            "Add a generation ID (QEMU: -device vmgenid,guid=auto) and use Linux 5.18 or later, or avoid snapshots.",
        )  # fmt: skip
    elif not machine.log_readable:
        yield DoctorFinding(
            "note", "copies",
            f"this virtual machine has a generation ID, but user {os.geteuid()} may not read the kernel log. "
            "A clone is detected only if the kernel sends a uevent",
            "Use the packaged units, which pass the log to the broker, or run the broker as root or with CAP_SYSLOG.",
        )  # fmt: skip
    else:
        yield DoctorFinding(
            "good", "copies", "this virtual machine has a generation ID, so clones are detected"
        )


def ports(config: "Config") -> Iterator[DoctorFinding]:
    """Check that the broker's ports are free now and at the next start."""
    wanted = {"tls": config.tls.listen, "enrol": config.enrol.listen, "health": config.health.listen}
    for name, address in wanted.items():
        if isinstance(address, HostPort) and not reserved(address.port):
            yield DoctorFinding(
                "note", f"door {name}",
                f"Linux can use port {address.port} for outgoing connections, so it might be busy at the next start",
                f"Reserve the port: add {address.port} to net.ipv4.ip_local_reserved_ports in /etc/sysctl.d.",
            )  # fmt: skip
        if isinstance(address, HostPort) and (why := _taken(address)):
            find = f"ss -ltnp sport = :{address.port}"
            yield DoctorFinding(
                "problem", f"door {name}", f"cannot listen on {address}: {why}",
                f"Find the process with '{find}', or set another address in [{name}].", find,
            )  # fmt: skip


def reserved(port: int, root: str = "/") -> bool:
    """Return whether Linux never uses a port for outgoing connections."""
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
    """Check whether each joined broker answers and its certificate is valid."""
    from drawwell.links.identity import LINKS, load_all

    directory = os.path.join(config.broker.state_dir, LINKS)
    try:
        identities = load_all(directory)
    except (StateUnavailable, OSError) as error:
        yield DoctorFinding.of_error("joined", error)
        return
    for identity in identities:
        yield _link(identity, directory)
        with contextlib.suppress(StateUnavailable):
            if note := identity.clock_note(time.time()):
                name = f"joined {os.path.basename(identity.directory)}"
                yield DoctorFinding("problem", name, note, "Compare both clocks, then run 'drawwell renew'.",
                                    "drawwell renew")  # fmt: skip


def _link(identity: "LinkIdentity", directory: str) -> DoctorFinding:
    import asyncio

    from drawwell.roles.upstream import named

    name = f"joined {os.path.basename(identity.directory)}"
    upstream = named(identity.directory, directory)
    there = f"ssh {identity.addresses[0].rpartition(':')[0].strip('[]')} drawwell doctor"

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
    except LinkUnavailable as error:
        return DoctorFinding("problem", name, str(error), error.hint or "", there)
    except DrawwellError as error:
        return DoctorFinding.of_error(name, error)
    except TimeoutError:
        return DoctorFinding(
            "problem",
            name,
            f"no answer within {ANSWER_S:g} s",
            "Check the network between the machines.",
            there,
        )
    return DoctorFinding(
        "good", name,
        f"broker {identity.broker} answers this machine ({identity.consumer}); the certificate expires in "
        f"{format_duration(left_s)}",
    )  # fmt: skip
