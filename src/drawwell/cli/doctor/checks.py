"""The doctor's examinations, in the order of a byte's path. Each looks, touches nothing, and says what it saw."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from drawwell.cli.doctor import inside_guest, source_off, surroundings
from drawwell.cli.doctor.devices import device_findings, node_findings
from drawwell.cli.doctor.finding import DoctorFinding
from drawwell.cli.render import drift_words, startup_words
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


def examine(args: argparse.Namespace) -> Iterator[DoctorFinding]:
    """Go through the whole chain."""
    kernel = kernel_facts()
    yield from _need(kernel)
    yield from _kernel(kernel)
    facts = virtual_facts()
    if facts.virtual and not kernel.container:
        yield from inside_guest.machine()
    config, findings = _configuration(args)
    yield from findings
    report = _broker_report(config) if config else None
    devices = discover()
    yield from _devices(devices)
    yield from _hwrng(config)
    yield from surroundings.others()
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
        yield from _broker(report, "" if joined else _start_hint(config, devices))
        yield from joined


def _need(kernel: KernelFacts) -> Iterator[DoctorFinding]:
    if kernel.small_pool and kernel.ready:
        yield DoctorFinding(
            "note", "need",
            "this kernel keeps itself seeded: ordinary programs here need nothing of all this. drawwell is for "
            "a source that you chose and can check, first boots and cloned machines, direct draws, and evidence",
        )  # fmt: skip


def _kernel(kernel: KernelFacts) -> Iterator[DoctorFinding]:
    yield DoctorFinding("good", "kernel", f"{kernel.release}: {kernel.meaning}")
    if kernel.fips_enabled:
        yield DoctorFinding(
            "note", "kernel", "FIPS mode is on; feeding the pool does not make its generators any faster"
        )
    if kernel.container:
        yield DoctorFinding(
            "note", "container",
            f"this is a container ({kernel.container}): it shares the host's kernel and its pool",
            "Feed the kernel on the host, and draw here through the broker's Unix socket, mounted into the container.",
        )  # fmt: skip
    if not kernel.may_feed:
        yield DoctorFinding(
            "note", "privilege", "without CAP_SYS_ADMIN the kernel cannot be fed from here; drawing needs none",
            "Run as root where [kernel] feed = true.",
        )  # fmt: skip


def _configuration(args: argparse.Namespace) -> "tuple[Config | None, tuple[DoctorFinding, ...]]":
    from drawwell.config.load import load

    try:
        config = load(args.config)
    except ConfigError as error:
        hint = error.hint or ""
        return None, tuple(
            DoctorFinding("problem", "configuration", words, hint) for words in error.faults or (str(error),)
        )
    files = ", ".join(config.files) or "no file, everything is at its default"
    names = ", ".join(f"{source.name} ({source.driver})" for source in config.sources) or "none"
    return config, (DoctorFinding("good", "configuration", f"{files}; sources: {names}"),)


def _devices(devices: tuple[UsbDevice, ...]) -> Iterator[DoctorFinding]:
    if devices:
        seen = ", ".join(f"{device.kind} at {device.stable_name}" for device in devices)
        yield DoctorFinding("good", "device", f"plugged in: {seen}")
    elif not os.path.isdir("/sys/bus/usb"):
        yield DoctorFinding(
            "note", "device", "this machine has no USB", "Name another source, such as /dev/hwrng."
        )
    else:
        yield DoctorFinding(
            "note", "device", "no noise source that drawwell knows is plugged in",
            "Plug it in and look at 'dmesg'; try everything without one: 'drawwell demo'.",
        )  # fmt: skip


def _hwrng(config: "Config | None") -> Iterator[DoctorFinding]:
    found = generators()
    if not found.current:
        return
    if found.current == NONE:
        yield DoctorFinding(
            "note", "hwrng", f"no generator is behind {HWRNG}",
            "Plug one in, or load its driver: 'ls /lib/modules/$(uname -r)/kernel/drivers/char/hw_random'.",
        )  # fmt: skip
        return
    if not os.path.exists(HWRNG):
        yield DoctorFinding(
            "note", "hwrng", f"the kernel has {found.current}, but there is no {HWRNG} in here"
        )
        return
    kind = generator_kind(found.current)
    others = ", ".join(each for each in found.available if each != found.current)
    words = f"{HWRNG} is {found.current}: {kind.made_of}" + (
        f"; available are also {others}" if others else ""
    )
    used = config is not None and any(os.path.realpath(each.path) == HWRNG for each in config.sources)
    section = f'{replace(kind, command=(), driver="chardev").section(HWRNG)}\nhwrng = "{found.current}"'
    yield DoctorFinding(
        "good",
        "hwrng",
        words,
        "" if used else f"Use it: 'drawwell init hwrng', or add to the configuration:\n{section}",
    )


def _configured_nodes(config: "Config", devices: tuple[UsbDevice, ...]) -> list[tuple[str, str]]:
    """Sources that the configuration names by a node which is none of `devices`."""
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
        except (PermissionRefused, client.NoBroker):  # a container has the broker's own socket alone
            return client.ask(config.unix.path, "status", {})
    except client.NoBroker:
        return None
    except DrawwellError as error:
        return {"unanswered": str(error), "hint": error.hint or ""}


def _broker(report: dict[str, Any] | None, start_hint: str) -> Iterator[DoctorFinding]:
    if report is None:
        yield DoctorFinding("note", "broker", "none runs here", start_hint)
        return
    if "unanswered" in report:
        yield DoctorFinding("problem", "broker", report["unanswered"], report["hint"])
        return
    if "sources" not in report:
        level, words = ("good", "ready") if report["ready"] else ("problem", report["not_ready_because"])
        yield DoctorFinding(
            level, "broker", words, "Its owner is told more: ask as root or as the broker's own user."
        )
        return
    if report["ready"]:
        healthy = f"{report['healthy_sources']} of {len(report['sources'])} sources healthy"
        yield DoctorFinding("good", "broker", f"ready, {healthy}")
    else:
        below = "See the sources below." if report["sources"] else _no_source_hint()
        yield DoctorFinding("problem", "broker", report["not_ready_because"], below)
    for note in report["notes"]:
        yield DoctorFinding("note", "broker", note)
    for source in report["sources"]:
        yield from _source(source)


def _no_source_hint() -> str:
    if os.path.exists(HWRNG) and hardware_generator():
        return f"Plug a noise source in, or take {HWRNG}: 'drawwell init hwrng'."
    return "Plug a noise source in, or join a broker that has one: 'drawwell join'."


def _start_hint(config: "Config", devices: tuple[UsbDevice, ...]) -> str:
    if not (config.serves or config.pours):
        return ""
    if all(source.path == "auto" for source in config.sources) and not any(
        device.kind == ONERNG for device in devices
    ):
        if devices and config.sources:
            return "Add the [[source]] of a device above to the configuration; then 'drawwell run'."
        return (
            "Plug a OneRNG in, or name another source in the configuration; then 'drawwell run'. "
            "'drawwell demo' needs neither."
        )
    return "Start it: 'drawwell run'."


def _source(source: dict[str, Any]) -> Iterator[DoctorFinding]:
    identity = source["identity"]
    name = f"source {identity['name']}" + (" (simulated)" if identity["simulated"] else "")
    if source["paused"]:
        yield DoctorFinding("note", name, "paused", f"Go on: 'drawwell onerng resume {identity['path']}'.")
    elif source["state"] == "healthy":
        yield DoctorFinding("good", name, f"noise passes the health tests ({identity['noise']})")
    else:
        why, hint = source["last_error"] or startup_words(source) or "start-up tests run", _state_hint(source)
        if source["state"] == SourceState.OFF:
            why, hint = source_off.cause(source)
        yield DoctorFinding("problem", name, f"{source['state']}: {why}", hint)
    if drift := drift_words(source):
        yield DoctorFinding(
            "problem", name, drift, "Assess it: 'drawwell assess', and set min_entropy to what it holds."
        )
    firmware = identity["firmware"]
    if firmware == Firmware.VERIFIED:
        yield DoctorFinding("good", name, f"{firmware}; {identity['firmware_detail']}")
    elif firmware != Firmware.NOT_APPLICABLE and source["state"] != "off":
        hint = "Do not use it, unless the firmware is your own; 'drawwell onerng verify' asks again."
        yield DoctorFinding("problem", name, f"firmware {firmware}: {identity['firmware_detail']}", hint)


def _state_hint(source: dict[str, Any]) -> str:
    return _STATE_HINTS.get(source["state"], "").format(source["identity"]["name"])


_STATE_HINTS = {
    SourceState.STARTING: "It is healthy when they are all in: ask again then.",
    SourceState.INTERMITTENT_FAILURE: "Its tests start again by themselves; watch it: 'drawwell source watch'.",
    SourceState.PERMANENT_FAILURE: "Find the cause, then 'drawwell source reset {}'.",
}
