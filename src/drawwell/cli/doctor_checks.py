"""The doctor's examinations, in the order of a byte's path. Each looks, touches nothing, and says what it saw."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from drawwell.drivers.discovery import UsbDevice, discover, holders
from drawwell.errors import ConfigError, DrawwellError, LinkUnavailable
from drawwell.host.kernel import KernelFacts, kernel_facts
from drawwell.reports import Firmware

MODEM_MANAGER = "ModemManager"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing seen: `level` is good, note or problem; `hint` is what to type."""

    level: str
    subject: str
    words: str
    hint: str = ""

    def document(self) -> dict[str, str]:
        """As JSON."""
        return asdict(self)


def examine(args: argparse.Namespace) -> Iterator[Finding]:
    """Go through the whole chain."""
    kernel = kernel_facts()
    yield from _need(kernel)
    yield from _kernel(kernel)
    yield from _configuration(args)
    report = _broker_report(args)
    devices = discover()
    yield from _devices(devices)
    for device in devices:
        yield from _device(device, running=report is not None)
    for name, path in _configured_nodes(args, devices):
        yield from _node(name, path, running=report is not None)
    yield from _broker(report)


def _need(kernel: KernelFacts) -> Iterator[Finding]:
    if kernel.small_pool and kernel.ready:
        yield Finding(
            "note", "need",
            "this kernel keeps itself seeded: ordinary programs here need nothing of all this. drawwell is for "
            "a source that you chose and can check, first boots and cloned machines, direct draws, and evidence",
        )  # fmt: skip


def _kernel(kernel: KernelFacts) -> Iterator[Finding]:
    yield Finding("good", "kernel", f"{kernel.release}: {kernel.meaning}")
    if kernel.fips_enabled:
        yield Finding(
            "note", "kernel", "FIPS mode is on; feeding the pool does not make its generators any faster"
        )
    if kernel.container:
        yield Finding(
            "note", "container",
            f"this is a container ({kernel.container}): it shares the host's kernel and its pool",
            "Feed the kernel on the host, and draw here through the broker's Unix socket, mounted into the container.",
        )  # fmt: skip
    if not kernel.may_feed:
        yield Finding(
            "note", "privilege", "without CAP_SYS_ADMIN the kernel cannot be fed from here; drawing needs none",
            "Run as root where [kernel] feed = true.",
        )  # fmt: skip


def _configuration(args: argparse.Namespace) -> Iterator[Finding]:
    from drawwell.config.load import load

    try:
        config = load(args.config)
    except ConfigError as error:
        yield Finding("problem", "configuration", "; ".join(error.faults) or str(error), error.hint or "")
        return
    files = ", ".join(config.files) or "none needed: everything is at its default"
    names = ", ".join(f"{source.name} ({source.driver})" for source in config.sources) or "none"
    yield Finding("good", "configuration", f"{files}; sources: {names}")


def _devices(devices: tuple[UsbDevice, ...]) -> Iterator[Finding]:
    if devices:
        seen = ", ".join(f"{device.kind} at {device.stable_name}" for device in devices)
        yield Finding("good", "device", f"plugged in: {seen}")
    elif not os.path.isdir("/sys/bus/usb"):
        yield Finding("note", "device", "this machine has no USB", "Name another source, such as /dev/hwrng.")
    else:
        yield Finding(
            "note", "device", "no noise source that drawwell knows is plugged in",
            "Plug it in and look at 'dmesg'; try everything without one: 'drawwell demo'.",
        )  # fmt: skip
    if hwrng := _current_hwrng():
        yield Finding(
            "good", "hwrng",
            f"/dev/hwrng is {hwrng}, conditioned by its maker",
            'Use it: [[source]] driver = "chardev", path = "/dev/hwrng", min_entropy = 1.0 (or what you assessed).',
        )  # fmt: skip


def _current_hwrng() -> str:
    try:
        with open("/sys/class/misc/hw_random/rng_current", encoding="ascii") as file:
            name = file.read().strip()
    except OSError:
        return ""
    return "" if name == "none" else name


def _configured_nodes(args: argparse.Namespace, devices: tuple[UsbDevice, ...]) -> list[tuple[str, str]]:
    """Sources that the configuration names by a node which is none of `devices`."""
    from drawwell.config.load import load

    try:
        sources = load(args.config).sources
    except ConfigError:
        return []
    seen = {device.path for device in devices}
    return [
        (f"source {source.name}", source.path)
        for source in sources
        if source.path.startswith("/") and os.path.realpath(source.path) not in seen
    ]


def _device(device: UsbDevice, *, running: bool) -> Iterator[Finding]:
    name = f"{device.kind} {device.stable_name}"
    if not device.bound_driver or not device.path:
        yield Finding(
            "problem", name, "no kernel driver has taken it, so it has no node",
            "Load it: 'modprobe cdc_acm'. A virtual machine that was handed the stick takes it away from here.",
        )  # fmt: skip
        return
    yield Finding("good", name, f"driver {device.bound_driver}, node {device.path}")
    yield from _node(name, device.path, running=running)


def _node(name: str, path: str, *, running: bool) -> Iterator[Finding]:
    if not os.path.exists(path):
        yield Finding(
            "problem", name, f"{path} is not there", "Plug it in, or mend the path in the configuration."
        )
        return
    if not os.access(path, os.R_OK):
        yield Finding(
            "problem", name, f"{path} may not be opened by user {os.geteuid()}",
            "Run as root, or join the group that owns it (ls -l), usually dialout.",
        )  # fmt: skip
        return
    others = [] if running else holders(path)
    for holder in others:
        words = f"process {holder.pid} ({holder.name}) has {path} open"
        yield Finding("problem", name, words, _hint_for(holder.name))
    if not others and not running:
        yield Finding(
            "good", name, f"{path} may be opened, and nobody has it open",
            f"Look at its firmware and its noise: 'drawwell source verify {path}'.",
        )  # fmt: skip


def _hint_for(holder: str) -> str:
    if holder == MODEM_MANAGER:
        return (
            "It takes the stick for a modem. Tell it not to, by a udev rule for 1d50:6086 with "
            'ENV{ID_MM_DEVICE_IGNORE}="1", or stop it.'
        )
    if holder == "rngd":
        return "Stop it: 'systemctl stop rngd' (or rng-tools-debian); drawwell feeds the kernel itself."
    return "Stop it, or let drawwell run alone."


def _broker_report(args: argparse.Namespace) -> dict[str, Any] | None:
    from drawwell.cli import control

    try:
        return control.call(args, "status", {})
    except (LinkUnavailable, ConfigError):
        return None
    except DrawwellError as error:
        return {"unanswered": str(error), "hint": error.hint or ""}


def _broker(report: dict[str, Any] | None) -> Iterator[Finding]:
    if report is None:
        yield Finding("note", "broker", "none runs here", "Start it: 'drawwell run'.")
        return
    if "unanswered" in report:
        yield Finding("problem", "broker", report["unanswered"], report["hint"])
        return
    if report["ready"]:
        yield Finding("good", "broker", f"ready, {report['healthy_sources']} healthy sources")
    else:
        yield Finding("problem", "broker", report["not_ready_because"], "See the sources below.")
    for source in report["sources"]:
        yield from _source(source)


def _source(source: dict[str, Any]) -> Iterator[Finding]:
    identity = source["identity"]
    name = f"source {identity['name']}" + (" (simulated)" if identity["simulated"] else "")
    if source["paused"]:
        yield Finding("note", name, "paused", f"Go on: 'drawwell onerng resume {identity['path']}'.")
    elif source["state"] == "healthy":
        yield Finding("good", name, f"noise passes the health tests ({identity['noise']})")
    else:
        hint = f"Find the cause, then 'drawwell source reset {identity['name']}'."
        latched = source["state"] == "permanent failure"
        yield Finding("problem", name, f"{source['state']}: {source['last_error']}", hint if latched else "")
    firmware = identity["firmware"]
    if firmware == Firmware.VERIFIED:
        yield Finding("good", name, f"{firmware}; {identity['firmware_detail']}")
    elif firmware != Firmware.NOT_APPLICABLE and source["state"] != "off":
        yield Finding("problem", name, f"firmware {firmware}: {identity['firmware_detail']}")
