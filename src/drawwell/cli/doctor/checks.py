"""The doctor's read-only checks, in the order in which bytes flow."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from drawwell.cli.doctor import inside_guest, source_off, surroundings
from drawwell.cli.doctor.devices import device_findings, how_to_use, node_findings
from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.cli.doctor.fleet import fleet_findings
from drawwell.cli.render import drift_text, startup_text
from drawwell.config.devices import generator_kind
from drawwell.drivers.discovery import ONERNG, UsbDevice, discover
from drawwell.drivers.hwrng import NONE, generators
from drawwell.errors import ConfigError, DrawwellError, PermissionRefused
from drawwell.host.kernel import KernelFacts, hardware_generator, kernel_facts
from drawwell.host.virtual import virtual_facts
from drawwell.reports import Firmware, SourceState

if TYPE_CHECKING:
    from drawwell.config.model import Config

HWRNG = "/dev/hwrng"
_USE_HWRNG = "drawwell init hwrng"


def examine(args: argparse.Namespace) -> Iterator[DoctorFinding]:
    """Run all checks."""
    kernel = kernel_facts()
    yield from _need(kernel)
    yield from _kernel(kernel)
    facts = virtual_facts()
    if facts.virtual and not kernel.container:
        yield from inside_guest.machine()
    config, report, findings = _configuration(args)
    yield from findings
    devices = discover()
    yield from _devices(devices)
    yield from _hwrng(config)
    yield from surroundings.others(config)
    for device in devices:
        yield from device_findings(device, config, running=report is not None)
    if config:
        yield from surroundings.refusals(config)
        if report is None:
            for name, path in _configured_nodes(config, devices):
                yield from node_findings(name, path)
        if config.serves and report is None:
            yield from surroundings.state(config)
            yield from surroundings.ports(config)
        yield from surroundings.copies(config, facts)
        joined = tuple(surroundings.links(config))
        yield from _broker(report, ("", "") if joined else _start_hint(config, devices))
        yield from fleet_findings(report, config)
        yield from joined


def _need(kernel: KernelFacts) -> Iterator[DoctorFinding]:
    if kernel.small_pool and kernel.ready:
        yield DoctorFinding(
            "note", "need",
            "this kernel stays seeded, so ordinary programs do not need drawwell. Use drawwell to choose and check "
            "your own source, and for first boots, cloned machines, direct draws and evidence",
        )  # fmt: skip


def _kernel(kernel: KernelFacts) -> Iterator[DoctorFinding]:
    yield DoctorFinding("good", "kernel", f"{kernel.release}: {kernel.meaning}")
    if kernel.fips_enabled:
        yield DoctorFinding(
            "note", "kernel", "FIPS mode is on; feeding the kernel does not speed up its generators"
        )
    if kernel.container:
        yield DoctorFinding(
            "note", "container",
            f"this is a container ({kernel.container}), which shares the host's kernel and entropy pool",
            "Feed the kernel on the host. To draw here, mount the broker's Unix socket into the container.",
        )  # fmt: skip
    if not kernel.may_feed:
        yield DoctorFinding(
            "note", "privilege", "drawwell cannot feed the kernel without CAP_SYS_ADMIN, but it can draw",
            "Run as root if [kernel] feed = true.",
        )  # fmt: skip


def _configuration(
    args: argparse.Namespace,
) -> "tuple[Config | None, dict[str, Any] | None, tuple[DoctorFinding, ...]]":
    """Return the configuration, the running broker's report, and findings.

    Unless the user named a file, use the configuration of the running broker.
    """
    from drawwell.config.load import load

    report, whose = None, ""
    try:
        config = load(args.config)
        report = _broker_report(config)
        match (report or {}).get("configuration"):
            case [file] if not args.config and file not in config.files:
                config, whose = load(file), " (of the running broker)"
    except ConfigError as error:
        hint = error.hint or ""
        return None, report, tuple(
            DoctorFinding("problem", "configuration", text, hint, "drawwell config check")
            for text in error.faults or (str(error),)
        )  # fmt: skip
    files = ", ".join(config.files) or "no file, all settings have their defaults"
    names = ", ".join(f"{source.name} ({source.driver})" for source in config.sources) or "none"
    found = DoctorFinding("good", "configuration", f"{files}{whose}; sources: {names}")
    return config, report, (found,)


def _devices(devices: tuple[UsbDevice, ...]) -> Iterator[DoctorFinding]:
    if devices:
        seen = ", ".join(f"{device.kind} at {device.stable_name}" for device in devices)
        yield DoctorFinding("good", "device", f"connected: {seen}")
    elif not os.path.isdir("/sys/bus/usb"):
        yield DoctorFinding(
            "note", "device", "this machine has no USB bus", "Configure another source, such as /dev/hwrng."
        )
    else:
        yield DoctorFinding(
            "note", "device", "no known noise source is connected",
            "Plug in a device and check 'dmesg'. To try drawwell without a device, run 'drawwell demo'.",
        )  # fmt: skip


def _hwrng(config: "Config | None") -> Iterator[DoctorFinding]:
    found = generators()
    if not found.current:
        return
    if found.current == NONE:
        yield DoctorFinding(
            "note", "hwrng", f"no generator is connected to {HWRNG}",
            "Plug it in, or load its driver (see 'ls /lib/modules/$(uname -r)/kernel/drivers/char/hw_random').",
        )  # fmt: skip
        return
    if not os.path.exists(HWRNG):
        yield DoctorFinding(
            "note", "hwrng", f"the kernel has {found.current}, but {HWRNG} does not exist here"
        )
        return
    kind = generator_kind(found.current)
    others = ", ".join(each for each in found.available if each != found.current)
    text = f"{HWRNG} is {found.current}: {kind.made_of}" + (f"; also available: {others}" if others else "")
    used = config is not None and any(os.path.realpath(each.path) == HWRNG for each in config.sources)
    section = f'{replace(kind, command=(), driver="chardev").section(HWRNG)}\nhwrng = "{found.current}"'
    use = ("", "") if used else how_to_use("it", "hwrng", section, config)
    yield DoctorFinding("good", "hwrng", text, *use)


def _configured_nodes(config: "Config", devices: tuple[UsbDevice, ...]) -> list[tuple[str, str]]:
    """Return the configured sources with a node that is not in `devices`."""
    seen = {device.path for device in devices}
    return [
        (f"source {source.name}", source.path)
        for source in config.sources
        if source.path.startswith("/") and os.path.realpath(source.path) not in seen
    ]


def _broker_report(config: "Config") -> dict[str, Any] | None:
    from drawwell.cli import client

    try:
        try:
            return client.ask(config.control.path, "status", {})
        except (PermissionRefused, client.NoBroker):  # in a container, only the Unix socket is mounted
            return client.ask(config.unix.path, "status", {})
    except client.NoBroker:
        return None
    except DrawwellError as error:
        return {"unanswered": str(error), "hint": error.hint or ""}


def _broker(report: dict[str, Any] | None, start_hint: tuple[str, str]) -> Iterator[DoctorFinding]:
    if report is None:
        yield DoctorFinding("note", "broker", "no broker is running here", *start_hint)
        return
    if "unanswered" in report:
        yield DoctorFinding("problem", "broker", report["unanswered"], report["hint"])
        return
    if "sources" not in report:
        level, text = ("good", "ready") if report["ready"] else ("problem", report["not_ready_because"])
        yield DoctorFinding(level, "broker", text, "For details, run this as root or as the broker's user.")
        return
    sources = [finding for source in report["sources"] for finding in _source(source)]
    if report["ready"]:
        healthy = f"{report['healthy_sources']} of {len(report['sources'])} sources healthy"
        yield DoctorFinding("good", "broker", f"ready, {healthy}")
    else:
        below = "See the findings about sources below.", next((s.command for s in sources if s.command), "")
        hint = below if sources else _no_source_hint()
        yield DoctorFinding("problem", "broker", report["not_ready_because"], *hint)
    for note in report["notes"]:
        yield DoctorFinding("note", "broker", note)
    yield from sources


def _no_source_hint() -> tuple[str, str]:
    """Return a hint and a command for a broker without sources."""
    if os.path.exists(HWRNG) and hardware_generator():
        return f"Plug in a noise source, or use {HWRNG} with '{_USE_HWRNG}'.", _USE_HWRNG
    return "Plug in a noise source, or join another broker with 'drawwell join'.", ""


def _start_hint(config: "Config", devices: tuple[UsbDevice, ...]) -> tuple[str, str]:
    """Return a hint and a command for starting the broker."""
    if not (config.serves or config.has_sinks):
        return "", ""
    if all(source.path == "auto" for source in config.sources) and not any(
        device.kind == ONERNG for device in devices
    ):
        if devices and config.sources:
            return "Add a [[source]] from above to the configuration, then run 'drawwell run'.", _START
        hint = "Plug in a OneRNG or configure another source, then run 'drawwell run'. "
        return f"{hint}'drawwell demo' works without a source.", "drawwell demo"
    return "Start the broker with 'drawwell run'.", _START


_START = "drawwell run"


def _source(source: dict[str, Any]) -> Iterator[DoctorFinding]:
    identity = source["identity"]
    name = f"source {identity['name']}" + (" (simulated)" if identity["simulated"] else "")
    if source["paused"]:
        resume = f"drawwell onerng resume {identity['path']}"
        yield DoctorFinding("note", name, "paused", f"Resume the source with '{resume}'.", resume)
    elif source["state"] == "healthy":
        yield DoctorFinding("good", name, f"the noise passes the health tests ({identity['noise']})")
    else:
        hint, command = (
            text.format(identity["name"]) for text in _STATE_HINTS.get(source["state"], ("", ""))
        )
        why = source["last_error"] or startup_text(source) or "the start-up tests are running"
        if source["state"] == SourceState.OFF:
            why, hint, command = source_off.cause(source)
        yield DoctorFinding("problem", name, f"{source['state']}: {why}", hint, command)
    if drift := drift_text(source):
        assess = f"drawwell assess {identity['name']}"
        yield DoctorFinding(
            "problem", name, drift, f"Measure it with '{assess}' and set min_entropy to the result.", assess
        )
    firmware = identity["firmware"]
    if firmware == Firmware.VERIFIED:
        yield DoctorFinding("good", name, f"{firmware}; {identity['firmware_detail']}")
    elif firmware != Firmware.NOT_APPLICABLE and source["state"] != "off":
        verify = f"drawwell onerng verify {identity['name']}"
        hint = f"Do not use the device unless the firmware is your own. To check again, run '{verify}'."
        text = f"firmware {firmware}: {identity['firmware_detail']}"
        yield DoctorFinding("problem", name, text, hint, verify)


_STATE_HINTS = {
    SourceState.STARTING: ("Wait until the start-up tests are complete, then check again.", ""),
    SourceState.INTERMITTENT_FAILURE: (
        "The tests restart automatically. Watch them with 'drawwell source watch {0}'.", "drawwell source watch {0}",
    ),
    SourceState.PERMANENT_FAILURE: (
        "Find the cause, then run 'drawwell source reset {0}'.", "drawwell source reset {0}",
    ),
}  # fmt: skip
"""For states of a source: a hint, and a command."""
