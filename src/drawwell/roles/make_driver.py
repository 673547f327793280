"""From the configuration's words, or a device that was found, to a driver and what its noise is assessed at."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace

from drawwell.config.broker_side import SourceSection
from drawwell.config.model import Config
from drawwell.drivers.chardev import CharDeviceSource
from drawwell.drivers.discovery import ONERNG, UsbDevice
from drawwell.drivers.execute import ExecSource
from drawwell.drivers.onerng import OneRngSource
from drawwell.drivers.replay import ReplaySource
from drawwell.entropy.health import NoiseClaim
from drawwell.errors import ConfigError, SourceUnavailable, UsageError
from drawwell.onerng.image import BadSignature
from drawwell.onerng.openpgp_key import MAX_KEY_BYTES, signer_of
from drawwell.onerng.verify import VENDOR, Signer
from drawwell.ports import NoiseSource

ONERNG_MIN_ENTROPY = 6.0
"""Bits a byte, until the owner has assessed his own stick; its documented bias gives 6.9 and more."""
OTHERS_MIN_ENTROPY = 4.0
"""Bits a byte of other devices that are read without a [[source]]: half of what their makers promise."""
_LONGEST_NAME = 63


def make_driver(section: SourceSection) -> tuple[NoiseSource, NoiseClaim]:
    """Return the driver of one [[source]], and what its noise is assessed at."""
    one_bit_samples = section.driver == "onerng"  # packed by the byte: what is claimed holds for every bit
    claim = NoiseClaim(
        ONERNG_MIN_ENTROPY if section.min_entropy is None else section.min_entropy, bits=one_bit_samples
    )
    return _driver(section), claim


def _driver(section: SourceSection) -> NoiseSource:
    name, path = section.name, section.path
    match section.driver:
        case "onerng":
            return OneRngSource(
                name,
                path=path,
                mode=section.mode,
                verify=section.verify_firmware,
                stall_s=section.stall,
                signer=firmware_signer(section),
            )
        case "chardev":
            return CharDeviceSource(
                name,
                path,
                stall_s=section.stall,
                allow_os_generator=section.allow_os_generator,
            )
        case "exec":
            return ExecSource(name, section.command, stall_s=section.stall)
        case "replay":
            return ReplaySource(name, path, loop=section.loop)
    raise ConfigError(f"source {name}: no driver is called {section.driver!r}")


def firmware_signer(section: SourceSection) -> Signer:
    """Return whose signature its firmware must bear.

    Raises:
        ConfigError: the file of the key cannot be read, or holds none.
    """
    path = section.firmware_key
    if not path:
        return VENDOR
    try:
        with open(path, "rb") as file:
            return signer_of(file.read(MAX_KEY_BYTES + 1))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except BadSignature as error:
        reason = str(error)
    raise ConfigError(
        f"source {section.name}: firmware_key {path}: {reason}",
        hint="Write it with 'gpg --export --armor KEY', readable to the account that the source runs under.",
    )


def pick_source(config: Config, wanted: str | None) -> SourceSection:
    """Return the configured source with that name or path; a device node that nobody configured is a OneRNG.

    Raises:
        UsageError: nothing of that name, or several and none named.
    """
    for section in config.sources:
        if wanted in {section.name, section.path} or (wanted is None and len(config.sources) == 1):
            return section
    if wanted and wanted.startswith("/"):
        return SourceSection(name="onerng", path=wanted)
    names = ", ".join(section.name for section in config.sources) or "none"
    raise UsageError(
        f"no source {wanted!r}" if wanted else "which source?", hint=f"Configured sources: {names}."
    )


def source_by_stable_name(config: Config, stable_name: str, devices: Sequence[UsbDevice]) -> SourceSection:
    """Return what is known of the one of `devices` at that port: its [[source]], or what suits such a device.

    Raises:
        SourceUnavailable: no device that is known is there, or it has no node.
        ConfigError: it needs a reader of its own.
    """
    device = next((each for each in devices if each.stable_name == stable_name), None)
    if device is None:
        raise SourceUnavailable(
            f"no noise device is plugged in at {stable_name}", hint="See 'drawwell source list'."
        )
    if not device.path:
        raise SourceUnavailable(
            f"the {device.kind} at {stable_name} has no node",
            hint="Load the kernel's driver, or name a reader of its own in a [[source]] with driver exec.",
        )
    return _source_of(config, device, devices)


def source_by_node(config: Config, node: str, devices: Sequence[UsbDevice]) -> SourceSection:
    """Return the same of the device behind a node; one that nobody knows is taken for a OneRNG."""
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
    return SourceSection(
        name=_name(device.kind, device.stable_name),
        driver="chardev",
        path=device.path,
        min_entropy=OTHERS_MIN_ENTROPY,
    )


def _configured_at(config: Config, node: str) -> SourceSection | None:
    real = os.path.realpath(node)
    at_node = (each for each in config.sources if each.path.startswith("/"))
    return next((each for each in at_node if os.path.realpath(each.path) == real), None)


def _settings_of_any_onerng(config: Config) -> SourceSection:
    """The [[source]] that is for whatever OneRNG there is, or the defaults of one."""
    anywhere = (each for each in config.sources if each.driver == "onerng" and each.path == "auto")
    return next(anywhere, SourceSection(name="onerng", path="auto"))


def _name(kind: str, place: str) -> str:
    """Make a name of a kind and a place; the end of the place tells ports apart."""
    head = re.sub(r"[^a-z0-9]+", "", kind.lower())[:16] or "source"
    tail = re.sub(r"[^A-Za-z0-9._-]", "-", place)
    return f"{head}-{tail[-(_LONGEST_NAME - 1 - len(head)) :]}"
