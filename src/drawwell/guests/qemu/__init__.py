"""Plain QEMU: machines found by their process and changed through QMP."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from drawwell.errors import DrawwellError, GuestUnavailable
from drawwell.guests.model import (
    NEW,
    Attachment,
    Change,
    Guest,
    GuestFacts,
    GuestKind,
    Hypervisor,
    Inside,
    Plan,
    unknown,
)
from drawwell.guests.qemu import plan as plan_qemu
from drawwell.guests.qemu.command_line import QemuCommandLine, is_qemu, printable, read_command
from drawwell.guests.qemu.findings import Generator, backends, device_findings, generation_finding, limits
from drawwell.guests.qemu.generators import PERIPHERAL, generators_of
from drawwell.guests.qemu.qmp import Monitor, QmpError
from drawwell.guests.qemu.stick import require_free, require_taken, stick_finding

RELEASE_S: Final = 30.0
"""Timeout for the guest to release a device; under emulation, the release took up to 5 s."""
_MAX_COMMAND_BYTES: Final = 1 << 20
_MAX_CHARS: Final = 200
_RECONNECT_MS_SINCE: Final = (9, 2)


@dataclass(frozen=True, slots=True)
class RunningQemu:
    """A running QEMU process."""

    pid: int
    arguments: tuple[str, ...]
    directory: str
    machine: QemuCommandLine

    def path(self, given: str) -> str:
        """Resolve a path from the command line; "" stays ""."""
        return os.path.join(self.directory, given) if given else ""


def running(proc: str = "/proc") -> Iterator[RunningQemu]:
    """Yield all users' QEMU processes that run a machine, including libvirt's."""
    for entry in os.listdir(proc):
        if entry.isdecimal() and (arguments := _arguments(os.path.join(proc, entry, "cmdline"))):
            directory = _link(os.path.join(proc, entry, "cwd"))
            yield RunningQemu(int(entry), arguments, directory, read_command(arguments[1:]))


def _arguments(path: str) -> tuple[str, ...]:
    """Return a QEMU's command line; empty for other or exited processes."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_COMMAND_BYTES)
    except OSError:
        return ()
    arguments = tuple(os.fsdecode(each) for each in raw.rstrip(b"\0").split(b"\0"))
    return arguments if is_qemu(arguments[0]) else ()


def _link(path: str) -> str:
    try:
        return printable(os.readlink(path))
    except OSError:
        return "/"


class Qemu:
    """A `Hypervisor` for plain QEMU; `where` is an optional QMP socket."""

    def __init__(self, where: str = "", proc: str = "/proc") -> None:
        self._where = where
        self._proc = proc

    def plan(self, guest: Guest) -> Plan:
        """See `Hypervisor`."""
        plan = plan_qemu.plan(guest, os.path.abspath(self._where) if self._where else "")
        return replace(plan, notes=(*plan.notes, *self._others(guest)))

    def _others(self, guest: Guest) -> tuple[str, ...]:
        """List the machine's other generators; its kernel may use them instead."""
        with suppress(DrawwellError):
            process = self._find(guest)
            others = [each for each in _generators(process) if each.place != guest.socket] if process else []
            return tuple(map(plan_qemu.OTHERS_NOTE.format, others)) if guest.via is Attachment.VIRTIO else ()
        return ()

    def require(self, guest: Guest) -> None:
        """Check that the machine runs; given a QMP socket, `apply` checks this."""
        if not self._where and self._find(guest) is None:
            names = (each.machine.name for each in running(self._proc) if not each.machine.of_libvirt)
            raise unknown(f"no QEMU with the name {guest.target} is running", guest.target, names, NEW)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return None for both IDs, because any user can choose a process's name."""
        del guest
        return None, None

    def apply(self, guest: Guest) -> list[Change]:
        """Plug the device into the running machine; do nothing if none runs."""
        if not (paths := self._monitor_paths(guest)):
            return []
        with _reached(paths) as monitor:
            there = plan_qemu.identifier(guest) in _plugged(monitor)
            if there and _is_current(monitor, guest):
                _insist_on_stick(monitor, guest)
                return []
            if there:
                _unplug(monitor, plan_qemu.identifier(guest))
            if guest.via is Attachment.USB:
                require_free(guest.device)
            _plug(monitor, guest)
            try:
                _insist_on_stick(monitor, guest)
            except GuestUnavailable:
                _unplug(monitor, plan_qemu.identifier(guest))
                raise
            others = _others(monitor, guest)
        instead = ", instead of the previous device" if there else ""
        what = f"plugged {guest.via} into the running machine {guest.target}{instead}"
        kept = (plan_qemu.kept(f"machine {guest.target}", each) for each in others)
        return [Change(what, monitor.path), *kept]

    def remove(self, guest: Guest) -> list[Change]:
        """Unplug the device; QEMU 7.2 crashes if a request to the broker is open."""
        if not (paths := self._monitor_paths(guest)):
            return []
        with _reached(paths) as monitor:
            if not _unplug(monitor, plan_qemu.identifier(guest)):
                return []
        return [Change(f"unplugged {guest.via} from the running machine {guest.target}", monitor.path)]

    def inside(self, guest: Guest) -> Inside | None:
        """Return access through the guest agent's socket; see `Hypervisor`."""
        from drawwell.guests.qemu.agent import Agent  # noqa: PLC0415

        process = self._find(guest)
        path = process.path(process.machine.agent) if process else ""
        return Agent.at_socket(path) if path else None

    def audit(self) -> list[GuestFacts]:
        """Return the QEMU machines that libvirt did not start; see `Hypervisor`."""
        return [_facts(each) for each in running(self._proc) if not each.machine.of_libvirt]

    def _monitor_paths(self, guest: Guest) -> list[str]:
        """Return the guest's QMP sockets; empty if it is off or needs no change."""
        if self._where:
            return [self._where]
        process = self._find(guest)
        if process is None:
            return []
        if process.machine.monitors:
            return [process.path(each) for each in process.machine.monitors]
        ours = plan_qemu.identifier(guest)
        if any(f"id={ours}" in argument for argument in process.arguments):
            return []
        raise GuestUnavailable(
            f"the machine {guest.target} runs (process {process.pid}) but has no QMP socket",
            hint="Restart it with the plan's arguments, or with '-qmp unix:PATH,server=on,wait=off'.",
        )

    def _find(self, guest: Guest) -> RunningQemu | None:
        found = [each for each in running(self._proc) if self._is(each, guest)]
        if len(found) > 1:
            pids = ", ".join(str(each.pid) for each in found)
            raise GuestUnavailable(
                f"{len(found)} machines have the name {guest.target} (processes {pids})",
                hint="Select one by its QMP socket with --connect PATH.",
            )
        return found[0] if found else None

    def _is(self, process: RunningQemu, guest: Guest) -> bool:
        if self._where:
            return os.path.abspath(self._where) in map(process.path, process.machine.monitors)
        return process.machine.name == guest.target and not process.machine.of_libvirt


def hypervisor(where: str = "") -> Hypervisor:
    """Return the machines of plain QEMU; see kinds.py."""
    return Qemu(where)


def _reached(paths: Sequence[str]) -> Monitor:
    """Return the first monitor that answers; each serves one client at a time."""
    *others, last = paths
    for path in others:
        with suppress(DrawwellError):
            return Monitor(path)
    return Monitor(last)


def _plugged(monitor: Monitor) -> dict[object, object]:
    """Return the types of all plugged-in devices, by their ids."""
    listed = monitor.execute("qom-list", path=PERIPHERAL)
    if not isinstance(listed, list):
        return {}
    return {each.get("name"): each.get("type") for each in listed if isinstance(each, dict)}


def _is_current(monitor: Monitor, guest: Guest) -> bool:
    """Return whether the plugged-in device has this attachment and limit."""
    name = plan_qemu.identifier(guest)
    generator = dict(generators_of(monitor)).get(f"{PERIPHERAL}/{name}")
    if generator is None:
        return _plugged(monitor).get(name) == f"child<{_device(guest)['driver']}>"
    wanted = (_backend(guest).get("qom-type"), plan_qemu.refill(guest.rate).max_bytes)
    return (generator.backend, generator.max_bytes) == wanted


def _others(monitor: Monitor, guest: Guest) -> list[Generator]:
    """Return the other generators, if the guest's device is a generator."""
    ours = f"{PERIPHERAL}/{plan_qemu.identifier(guest)}"
    return [each for path, each in generators_of(monitor) if path != ours] if _backend(guest) else []


def _plug(monitor: Monitor, guest: Guest) -> None:
    """Create chardev, object and device; undo all of them if one is refused."""
    name = plan_qemu.identifier(guest)
    undo: list[tuple[str, dict[str, Any]]] = []
    try:
        if guest.via in {Attachment.VIRTIO, Attachment.USB_VIRTUAL}:
            monitor.execute("chardev-add", id=name, backend=_socket(monitor, guest.socket))
            undo.append(("chardev-remove", {"id": name}))
        if backend := _backend(guest):
            monitor.execute("object-add", **backend)
            undo.append(("object-del", {"id": name}))
        _add_device(monitor, _device(guest))
    except QmpError:
        for command, arguments in reversed(undo):
            monitor.execute(command, **arguments)
        raise


def _insist_on_stick(monitor: Monitor, guest: Guest) -> None:
    if guest.via is Attachment.USB:
        require_taken(monitor, f"{PERIPHERAL}/{plan_qemu.identifier(guest)}", guest.device)


def _socket(monitor: Monitor, path: str) -> dict[str, Any]:
    new = monitor.version >= _RECONNECT_MS_SINCE
    reconnect = (
        {"reconnect-ms": 1000 * plan_qemu.RECONNECT_S} if new else {"reconnect": plan_qemu.RECONNECT_S}
    )
    address = {"type": "unix", "data": {"path": path}}
    return {"type": "socket", "data": {"addr": address, "server": False, **reconnect}}


def _backend(guest: Guest) -> dict[str, Any]:
    """Return the object behind virtio-rng; empty for USB."""
    name = plan_qemu.identifier(guest)
    match guest.via:
        case Attachment.VIRTIO:
            return {"qom-type": "rng-egd", "id": name, "chardev": name}
        case Attachment.FIFO:
            return {"qom-type": "rng-random", "id": name, "filename": plan_qemu.fifo(guest)}
        case Attachment.BUILTIN:
            return {"qom-type": "rng-builtin", "id": name}
    return {}


def _device(guest: Guest) -> dict[str, Any]:
    name = plan_qemu.identifier(guest)
    match guest.via:
        case Attachment.USB:
            return {"driver": "usb-host", "id": name, **_as_numbers(plan_qemu.usb_host(guest))}
        case Attachment.USB_VIRTUAL:
            return {"driver": "usb-redir", "id": name, "chardev": name}
    return {"driver": "virtio-rng-pci", "id": name, "rng": name, **plan_qemu.refill(guest.rate).options}


def _as_numbers(stick: dict[str, str]) -> dict[str, Any]:
    return {name: text if name == "hostport" else int(text, 0) for name, text in stick.items()}


def _add_device(monitor: Monitor, device: dict[str, Any]) -> None:
    """Plug in a device; if the root bus refuses it (q35), use a PCIe port."""
    try:
        monitor.execute("device_add", **device)
    except QmpError as refusal:
        port = _free_port(monitor) if "hotplug" in str(refusal) else ""
        if not port:
            raise
        monitor.execute("device_add", **device, bus=port)


def _free_port(monitor: Monitor) -> str:
    buses = monitor.execute("query-pci")
    devices = [each for bus in buses for each in bus.get("devices", ())] if isinstance(buses, list) else []
    for each in devices:
        if each.get("qdev_id") and "pci_bridge" in each and not each["pci_bridge"].get("devices"):
            return str(each["qdev_id"])
    return ""


def _unplug(monitor: Monitor, name: str) -> bool:
    """Remove device, object and chardev; return whether any of them existed.

    Raises:
        GuestUnavailable: the guest does not release the device.
    """
    there = name in _plugged(monitor)
    if there:
        monitor.execute("device_del", id=name)
        if not monitor.wait_for("DEVICE_DELETED", name, RELEASE_S) and name in _plugged(monitor):
            raise GuestUnavailable(
                f"the guest did not release {name} within {RELEASE_S:g} s",
                hint="A guest cannot release a device while it boots, or without ACPI hot-plug. Try again, or omit "
                "the device at the next start.",
            )
    return there | any([_gone(monitor, "object-del", name), _gone(monitor, "chardev-remove", name)])


def _gone(monitor: Monitor, command: str, name: str) -> bool:
    try:
        monitor.execute(command, id=name)
    except QmpError:
        return False
    return True


def _facts(process: RunningQemu) -> GuestFacts:
    machine = process.machine
    generators = _generators(process)
    return GuestFacts(
        kind=GuestKind.QEMU,
        name=machine.name[:_MAX_CHARS] or f"process {process.pid}",
        running=True,
        virtio_rng=bool(generators),
        backend=backends(generators)[:_MAX_CHARS],
        limit=limits(generators),
        generation_id=machine.generation_id,
        findings=(
            *device_findings(generators),
            *stick_finding(process.pid, machine.stick),
            generation_finding(present=machine.generation_id),
        ),
    )


def _generators(process: RunningQemu) -> tuple[Generator, ...]:
    """Return the generators: from QEMU, or else from its command line."""
    for path in process.machine.monitors:
        with suppress(DrawwellError), Monitor(process.path(path)) as monitor:
            lost = {each.place for each in process.machine.generators if not each.reconnects}
            return tuple(
                replace(each, reconnects=each.place not in lost) for _, each in generators_of(monitor)
            )
    return process.machine.generators
