"""Makes a driver and its claim for a [[source]] or a detected device."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module

from drawwell.config.broker_side import PACKED_BITS, SourceSection
from drawwell.config.devices import DEVICES
from drawwell.config.drivers import DRIVERS, hint_without_node
from drawwell.config.drivers import ONERNG as ONERNG_DRIVER
from drawwell.config.model import Config
from drawwell.drivers.discovery import ONERNG, UsbDevice, device_of
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.errors import SourceUnavailable, UsageError
from drawwell.ports import Depositing, Depot, NoiseSource
from drawwell.roles.source import SourceRole

_LONGEST_NAME = 63


def make_driver(section: SourceSection) -> tuple[NoiseSource, NoiseClaim]:
    """Return the driver for a [[source]] and the claim for its noise."""
    kind = DRIVERS[section.driver]
    driver: NoiseSource = import_module(kind.module).make(section)
    bits = kind.one_bit_samples if section.samples is None else section.samples == PACKED_BITS
    return driver, NoiseClaim(section.min_entropy or kind.min_entropy, bits=bits)


def make_source(
    section: SourceSection, depot: Callable[[Depositing], Depot], clock: Callable[[], float]
) -> SourceRole:
    """Return the source for a [[source]]; its deposits stay in this process."""
    driver, claim = make_driver(section)
    return SourceRole(driver, HealthMonitor(claim, hash_key=os.urandom(32)), depot, clock)


def pick_source(config: Config, wanted: str | None) -> SourceSection:
    """Return the configured source with this name or path.

    The path of a known device selects that device's driver. Any other path selects the OneRNG
    driver.

    Raises:
        UsageError: no source matches, or there are several and `wanted` is None.
    """
    for section in config.sources:
        if wanted in {section.name, section.path} or (wanted is None and len(config.sources) == 1):
            return section
    if wanted and wanted.startswith("/"):
        device = device_of(wanted)
        return _source_of(config, device, ()) if device else SourceSection(name=ONERNG_DRIVER, path=wanted)
    names = ", ".join(section.name for section in config.sources) or "none"
    raise UsageError(
        f"no source {wanted!r}" if wanted else "name a source", hint=f"Configured sources: {names}."
    )


def source_by_stable_name(config: Config, stable_name: str, devices: Sequence[UsbDevice]) -> SourceSection:
    """Return the [[source]] for the device at this port, or its defaults.

    Raises:
        SourceUnavailable: there is no known device at the port, or it has no node.
        ConfigError: only the device's own program can read the device.
    """
    device = next((each for each in devices if each.stable_name == stable_name), None)
    if device is None:
        raise SourceUnavailable(
            f"no noise device is plugged in at {stable_name}", hint="See 'drawwell source list'."
        )
    if not device.path:
        raise SourceUnavailable(
            f"the {device.kind} at {stable_name} has no node",
            hint=hint_without_node(DEVICES[device.kind]),
        )
    return _source_of(config, device, devices)


def source_by_node(config: Config, node: str, devices: Sequence[UsbDevice]) -> SourceSection:
    """Return the [[source]] for a node; an unknown device counts as a OneRNG."""
    if found := _configured_at(config, node):
        return found
    real = os.path.realpath(node)
    device = next((each for each in devices if each.path == real), None)
    if device is not None:
        return replace(_source_of(config, device, devices), path=node)
    like_it = _settings_of_any_onerng(config)
    return replace(like_it, name=_name(ONERNG, os.path.basename(node)), path=node)


def _source_of(config: Config, device: UsbDevice, devices: Sequence[UsbDevice]) -> SourceSection:
    if found := _configured_at(config, device.path):
        return found
    if device.kind == ONERNG:
        section = _settings_of_any_onerng(config)
        alone = sum(each.kind == ONERNG for each in devices) == 1
        name = section.name if config.written_sources and alone else _name(section.name, device.stable_name)
        return replace(section, name=name, path=device.path)
    kind = DEVICES[device.kind]
    return SourceSection(
        name=_name(device.kind, device.stable_name),
        driver=kind.driver,
        path=device.path,
        command=kind.command,
        manner=kind.manner,
        start=kind.start,
        min_entropy=kind.min_entropy,
    )


def _configured_at(config: Config, node: str) -> SourceSection | None:
    real = os.path.realpath(node)
    at_node = (each for each in config.sources if each.path.startswith("/"))
    return next((each for each in at_node if os.path.realpath(each.path) == real), None)


def _settings_of_any_onerng(config: Config) -> SourceSection:
    """Return the [[source]] for any OneRNG, or its defaults."""
    anywhere = (each for each in config.sources if each.driver == ONERNG_DRIVER and each.path == "auto")
    return next(anywhere, SourceSection(name=ONERNG_DRIVER, path="auto"))


def _name(kind: str, place: str) -> str:
    """Make a name from the kind and the end of `place`, a port."""
    head = re.sub(r"[^a-z0-9]+", "", kind.lower())[:16] or "source"
    tail = re.sub(r"[^A-Za-z0-9._-]", "-", place)
    return f"{head}-{tail[-(_LONGEST_NAME - 1 - len(head)) :]}"
