"""Findings about noise devices and their nodes."""

import os
import shutil
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from drawwell.cli.doctor import source_off
from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.cli.doctor.other_programs import readers
from drawwell.config.devices import DEVICES, DeviceKind
from drawwell.config.drivers import ONERNG, hint_without_node
from drawwell.drivers.discovery import UsbDevice, lasting_path
from drawwell.drivers.permission import join_group, no_permission
from drawwell.host.holders import Holder, holders, is_ours

if TYPE_CHECKING:
    from drawwell.config.model import Config

MODEM_MANAGER: Final = "ModemManager"
_STOP_RNGD: Final = "systemctl stop rngd"


def device_findings(device: UsbDevice, config: "Config | None", *, running: bool) -> Iterator[DoctorFinding]:
    name = f"{device.kind} {device.stable_name}"
    kind = DEVICES[device.kind]
    if kind.reader:  # only this program can read the device
        yield _read_by_program(name, kind, config)
        if device.path:
            allowed = readers(config)
            others = [each for each in _others(device.path) if each.name not in allowed]
            yield from _held(name, device.path, others, device.usb_id)
        return
    if device.bound_driver not in {"", "usbfs"} and not device.path:  # usbfs: a virtual machine uses it
        yield DoctorFinding(
            "note", name, f"kernel driver {device.bound_driver} uses the device, but its node is not in this /dev",
            "In a container, pass in the node (see 'drawwell guest --help' on the host), then use driver "
            f"{kind.driver} (see NOISE DEVICES in drawwell.toml(5)).",
        )  # fmt: skip
        return
    if not device.path:
        what = "the device has no node because no kernel driver uses it"
        yield DoctorFinding("problem", name, what, hint_without_node(kind), f"modprobe {kind.module}")
        return
    used = config is None or kind.driver == ONERNG or _is_configured(device.path, config)
    use = ("", "") if used else _how_to_use(kind, lasting_path(device.path), config)
    yield DoctorFinding("good", name, f"driver {device.bound_driver}, node {device.path}", *use)
    if running:
        yield from _held(name, device.path, _others(device.path), device.usb_id)
    else:
        yield from node_findings(name, device.path, device.usb_id)


def how_to_use(what: str, init: str, section: str, config: "Config | None") -> tuple[str, str]:
    """Return a hint to add a source, and a command if none is configured."""
    command = "" if config and config.written_sources else f"drawwell init {init}"
    run = f"run '{command}' or " if command else ""
    return f"To use {what}, {run}add this to the configuration:\n{section}", command


def node_findings(name: str, path: str, usb_id: str = "") -> Iterator[DoctorFinding]:
    if not os.path.exists(path):
        yield DoctorFinding(
            "problem", name, f"{path} does not exist", "Plug in the device or correct the path."
        )
        return
    if os.path.realpath(path).startswith("/dev/pts/"):
        name += " (simulated)"
    if not os.access(path, os.R_OK):
        yield _refused(name, path)
        return
    others = holders(path)
    yield from _held(name, path, others, usb_id)
    if not others and (why := source_off.try_to_open(path)):
        yield DoctorFinding("problem", name, f"cannot open {path}: {why}")
    elif not others:
        yield DoctorFinding(
            "good", name, f"opened {path}; no other process has it open",
            f"Check firmware and noise with 'drawwell source verify {path}'.",
        )  # fmt: skip


def _held(name: str, path: str, others: Iterable[Holder], usb_id: str) -> Iterator[DoctorFinding]:
    for holder in others:
        holds = f"process {holder.pid} ({holder.name}) has {path} open"
        yield DoctorFinding("problem", name, holds, _hint_for(holder.name, usb_id),
                            _STOP_RNGD if holder.name == "rngd" else "")  # fmt: skip


def _refused(name: str, path: str) -> DoctorFinding:
    error = no_permission(path)
    return DoctorFinding("problem", name, str(error), error.hint or "", join_group(path))


def _hint_for(holder: str, usb_id: str) -> str:
    if holder == MODEM_MANAGER:
        return (
            f"ModemManager mistakes the device for a modem. Stop it, or add a udev rule for {usb_id or 'the device'} "
            'with ENV{ID_MM_DEVICE_IGNORE}="1".'
        )
    if holder == "rngd":
        return (
            f"Stop rngd with '{_STOP_RNGD}' (or rng-tools-debian), because drawwell feeds the kernel itself."
        )
    return "Stop that process: only one program can read the device."


def _read_by_program(name: str, kind: DeviceKind, config: "Config | None") -> DoctorFinding:
    """Return the finding about a device that only its own program can read."""
    if config and any(kind.is_read_by(each.command) for each in config.sources):
        return DoctorFinding("good", name, f"{kind.reader} reads it")
    install = "" if shutil.which(kind.reader) else f"Install {kind.reader} from package {kind.package}. "
    hint, command = _how_to_use(kind, "", config)
    what = f"only its own program, {kind.reader}, can read the device"
    return DoctorFinding("note", name, what, install + hint, command)


def _how_to_use(kind: DeviceKind, path: str, config: "Config | None") -> tuple[str, str]:
    return how_to_use(f"it with driver {kind.driver}", "host", kind.section(path), config)


def _others(path: str) -> list[Holder]:
    return [each for each in holders(path) if not is_ours(each)]


def _is_configured(node: str, config: "Config") -> bool:
    paths = (each.path for each in config.sources if each.path.startswith("/"))
    return any(os.path.realpath(path) == os.path.realpath(node) for path in paths)
