"""Pure: a parser for the command line of a running QEMU.

The user who started the process chose the command line, so it is not trusted.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from drawwell.guests.qemu.findings import DEFAULT_PERIOD_MS, Generator
from drawwell.guests.qemu.stick_rule import ONERNG_PRODUCT, ONERNG_VENDOR

_PROGRAM: Final = re.compile(r"(qemu-system-[a-z0-9_]{1,32}|qemu-kvm|kvm)", re.ASCII)
_RNG_DEVICE: Final = re.compile(r"virtio-rng(-[a-z0-9-]{1,40})?", re.ASCII)
_LIBVIRT: Final = "/libvirt/qemu/"
"""Part of the path of the secret that libvirt creates for each machine."""
AGENT_PORT: Final = "org.qemu.guest_agent.0"
Properties = dict[str, str]
"""An option's properties; the key of a leading value without a name is ""."""


@dataclass(frozen=True, slots=True)
class QemuCommandLine:
    """The options of a QEMU process, with paths as that process sees them.

    "" means that an option is not set; `stick` is a OneRNG's port, "" for any, None for none.
    """

    name: str
    of_libvirt: bool
    monitors: tuple[str, ...]
    agent: str
    generators: tuple[Generator, ...]
    generation_id: bool
    stick: str | None


def is_qemu(program: str) -> bool:
    """Return whether a program is a QEMU that emulates a whole machine."""
    return _PROGRAM.fullmatch(posixpath.basename(program)) is not None


def read_command(arguments: Sequence[str]) -> QemuCommandLine:
    """Parse a QEMU's arguments; unknown options are ignored."""
    options = [(flag, properties(value)) for flag, value in _options(arguments)]
    devices = [each for flag, each in options if flag == "device"]
    return QemuCommandLine(
        name=next((each.get("guest", each.get("", "")) for flag, each in options if flag == "name"), ""),
        of_libvirt=any(_LIBVIRT in argument for argument in arguments),
        monitors=tuple(path for path in _monitors(options) if path),
        agent=_agent(options),
        generators=tuple(_generator(options, each) for each in devices if is_generator(_kind(each))),
        generation_id=any(_kind(each) == "vmgenid" for each in devices),
        stick=next((_port(each) for each in devices if _is_onerng(each)), None),
    )


def is_generator(driver: str) -> bool:
    """Return whether a driver is a virtio-rng device."""
    return _RNG_DEVICE.fullmatch(driver) is not None


def _generator(options: Sequence[tuple[str, Properties]], rng: Properties) -> Generator:
    backend = _named(options, "object", rng.get("rng", ""))
    chardev = _named(options, "chardev", backend.get("chardev", ""))
    return Generator(
        backend=_kind(backend) if backend else "rng-builtin",
        place=backend.get("filename", chardev.get("path", "")),
        reconnects=any(each.startswith("reconnect") and value != "0" for each, value in chardev.items()),
        max_bytes=_number(rng, "max-bytes"),
        period_ms=_number(rng, "period") or DEFAULT_PERIOD_MS,
    )


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield flags with their values; the value is "" if another flag follows."""
    for flag, value in pairwise(arguments):
        if flag.startswith("-"):
            yield flag.lstrip("-"), value


def properties(value: str) -> Properties:
    """Split ``kind,name=value,…`` (a doubled comma means one), or parse JSON.

    "?" replaces unprintable characters, because another user chose this text and root sees it.
    """
    found = _json_properties(value) if value.startswith("{") else _split(value)
    return {name: printable(content) for name, content in found.items()}


def printable(text: str) -> str:
    """Return `text` without terminal control characters."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _split(value: str) -> Properties:
    parts = [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
    first, *rest = parts
    found = {} if "=" in first else {"": first}
    pairs = (part.partition("=") for part in (rest if found else parts))
    return found | {name: content for name, _, content in pairs if name}


def _json_properties(value: str) -> Properties:
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {
        str(name): str(content) for name, content in document.items() if not isinstance(content, dict | list)
    }


def _kind(each: Properties) -> str:
    return each.get("", each.get("driver", each.get("qom-type", "")))


def _named(options: Sequence[tuple[str, Properties]], kind: str, name: str) -> Properties:
    return next((each for flag, each in options if flag == kind and each.get("id") == name), {})


def _is_onerng(each: Properties) -> bool:
    """Return whether this is the host's OneRNG, by its USB IDs or our name."""
    numbers = [each.get(name, "").lower().removeprefix("0x") for name in ("vendorid", "productid")]
    ours = each.get("id", "").startswith("drawwell-")
    return _kind(each) == "usb-host" and (ours or numbers == [f"{ONERNG_VENDOR:x}", f"{ONERNG_PRODUCT:x}"])


def _port(each: Properties) -> str:
    return f"{each['hostbus']}-{each['hostport']}" if {"hostbus", "hostport"} <= each.keys() else ""


def _number(each: Properties, name: str) -> int | None:
    text = each.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _monitors(options: Sequence[tuple[str, Properties]]) -> Iterator[str]:
    for flag, each in options:
        if flag == "qmp" and each.get("", "").startswith("unix:"):
            yield each[""].removeprefix("unix:")
        elif flag == "mon" and each.get("mode") == "control":
            yield _named(options, "chardev", each.get("chardev", each.get("", ""))).get("path", "")


def _agent(options: Sequence[tuple[str, Properties]]) -> str:
    ports = (each for flag, each in options if flag == "device" and each.get("name") == AGENT_PORT)
    return next((_named(options, "chardev", port.get("chardev", "")).get("path", "") for port in ports), "")
