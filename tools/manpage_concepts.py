"""The words of drawwell(7) and drawwell(8); the lists among them come from the code and from the unit files."""

import configparser
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from drawwell.drivers.discovery import KNOWN
from drawwell.entropy.blocks import DrawClass
from drawwell.reports import Firmware, SourceState

UNITS: Final = Path(__file__).resolve().parent.parent / "packaging" / "systemd"

IDEAS: Final = {
    "The path of a byte":
        "A source fills a reservoir; whoever is entitled draws from it; what was drawn is gone. Raw noise is "
        "health-tested (SP 800-90B) before anything else is done with it, conditioned with SHA-512 to full "
        "entropy (SP 800-90C), and kept until it is drawn. A byte is served once, to one consumer, and removed "
        "before it is sent.",
    "Sources":
        "A noise source is a device, a program or a file. Its samples count for what they were assessed at "
        "([[source]] min_entropy), never for more. A OneRNG is opened only after its firmware image was read back"
        " and its signature verified against the maker's key.",
    "Consumers":
        "Whoever draws is a consumer with a name: by its user on the Unix socket, by its certificate over TLS, by"
        " its key over SSH, by its own socket as a guest. Each has a rate, a quota and classes that it may ask "
        "for. A quota is written to disk before anything is served, and survives a power cut.",
    "Doors":
        "Unix socket, TLS 1.3 with certificates on both sides, SSH, HTTP on the same port, EGD, and sockets of "
        "guests. Nothing that comes in by a door reaches a device.",
    "Failure":
        "It is shown, never filled in. With fewer healthy sources than [broker] min_sources nothing is served, of"
        " either class, and the error says when to come back. There is no other generator at hand.",
    "Receipts":
        "A draw may be answered with a receipt, signed by the broker, that says what was drawn, when, and from "
        "which sources, and that holds none of its bytes.",
    "Credit":
        "The kernel is told to believe what was earned: full entropy of sources that were tested here. What came "
        "over a network is credited nothing unless the operator says so. A kernel with a pool of 256 bits that is"
        " seeded stays so, and a credit changes nothing there.",
}  # fmt: skip
"""Heading and words of each section."""
CLASSES: Final = {
    DrawClass.FULL: "full-entropy bytes out of the reservoir, each once, XORed with the consumer's own DRBG; as many "
    "as the hardware gives",
    DrawClass.DRBG: "the consumer's own AES-256 CTR_DRBG (SP 800-90A), seeded and reseeded from the reservoir; as many "
    "as it likes",
}
STATES: Final = {
    SourceState.OFF: "No device, or it cannot be opened; it is tried again and again.",
    SourceState.STARTING: "Open; the start-up tests run, and nothing of it is used yet.",
    SourceState.HEALTHY: "Its noise passes the tests, and is used.",
    SourceState.INTERMITTENT_FAILURE: "A test fired; what was in hand was dropped, the start-up tests run again.",
    SourceState.PERMANENT_FAILURE: "Tests fired that never should; only 'drawwell source reset' starts it again.",
}
FIRMWARE: Final = {
    Firmware.VERIFIED: "The device's own image bears the maker's signature.",
    Firmware.NOT_VERIFIED: "It does not; such a device is used only where the configuration says so.",
    Firmware.COULD_NOT_CHECK: "Nobody has looked yet, or was told not to.",
    Firmware.NOT_APPLICABLE: "This kind of source shows no firmware.",
}


def concepts() -> Iterator[tuple[str, str, str]]:
    """The body of drawwell(7): what each line is (SH, TP or PP), its heading, and its words."""
    yield "SH", "DESCRIPTION", (
        "drawwell draws true randomness from hardware that its owner trusts, and hands it on once and with proof. "
        "This page says what its words mean; drawwell(1) has the commands, drawwell.toml(5) the settings, "
        "drawwell(8) the units that run."
    )  # fmt: skip
    for heading, words in IDEAS.items():
        yield "SH", heading.upper(), words
    yield (
        "SH",
        "CLASSES",
        "Two classes are served, always named by whoever asks, never one in place of the other.",
    )
    for each in DrawClass:
        yield "TP", str(each), CLASSES[each] + "."
    yield "SH", "STATES OF A SOURCE", "As 'drawwell status' shows them."
    for state in SourceState:
        yield "TP", str(state), STATES[state]
    yield "SH", "FIRMWARE", "What is known of a device's own program."
    for firmware in Firmware:
        yield "TP", str(firmware), FIRMWARE[firmware]
    names = ", ".join(sorted(set(KNOWN.values())))
    yield (
        "SH",
        "DEVICES",
        f"Known by their USB numbers: {names}. Any other device can be named in the configuration.",
    )
    yield "SH", "LIMITS", (
        "A malicious device can show good firmware and noise that somebody else knows. Whoever is root on the "
        "broker's machine sees every byte. drawwell makes no weak key strong that was made elsewhere. It claims no "
        "certification."
    )  # fmt: skip


class Unit(NamedTuple):
    """A unit file: its name, its description, and what else it says of itself."""

    name: str
    description: str
    facts: tuple[str, ...]


def units(folder: Path = UNITS) -> list[Unit]:
    """The units of the package, in the order of the alphabet."""
    kinds = {".service", ".socket", ".target", ".timer", ".path"}
    files = sorted(path for path in folder.glob("*") if path.suffix in kinds) if folder.is_dir() else []
    return [_unit(path) for path in files]


def _unit(path: Path) -> Unit:
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, delimiters=("=",), allow_no_value=True
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(_joined(path.read_text()))
    return Unit(path.name, parser.get("Unit", "Description", fallback=path.stem), tuple(_facts(parser)))


def _joined(text: str) -> str:
    """The text with continued lines made one: a backslash at the end of a line goes on in the next."""
    return text.replace("\\\n", " ")


def _facts(parser: configparser.ConfigParser) -> Iterator[str]:
    def said(section: str, key: str) -> str:
        return " ".join((parser.get(section, key, fallback="") or "").split())

    if run := said("Service", "ExecStart"):
        yield f"Runs {run}."
    if (
        user := "a user that exists only while it runs"
        if said("Service", "DynamicUser") == "yes"
        else said("Service", "User")
    ):
        yield f"As {user}."
    if parser.has_option("Service", "CapabilityBoundingSet"):
        yield f"Capabilities: {said('Service', 'CapabilityBoundingSet') or 'none'}."
    if said("Service", "PrivateNetwork") in {"yes", "true"}:
        yield "It has no network."
    if listens := said("Socket", "ListenStream"):
        yield f"Listens on {listens}."


def machinery() -> Iterator[tuple[str, str, str]]:
    """The body of drawwell(8), as `concepts` gives it."""
    yield "SH", "DESCRIPTION", (
        "The work is parted among small units, so that what holds a privilege does little: whoever opens a device "
        "has no network, whoever talks to the network opens no device, and one alone may feed the kernel. 'drawwell"
        " run' does all of it in one process, in the foreground, where there is no systemd."
    )  # fmt: skip
    yield "SH", "UNITS", "Look at them with: systemctl status 'drawwell-*'."
    for unit in units():
        words = unit.description[:1].upper() + unit.description[1:].rstrip(".")
        yield "TP", unit.name, " ".join((f"{words}.", *unit.facts))
    yield "SH", "PLUGGING IN", (
        "A known device that is plugged in gets a link in /dev/drawwell by the name of its port, and udev has the "
        "instance of drawwell-source@.service started that bears this name (as systemd-escape(1) writes it). It is "
        "bound to the device: it stops when that is unplugged. The name stays when ports of the kernel (ttyACM0, "
        "ttyACM1) are numbered anew. ModemManager is told to leave the device alone."
    )  # fmt: skip
    yield "SH", "CONTAINERS", (
        "In a container there is no udev. The nodes that were passed through are found by their numbers and what "
        "sysfs says of them, at each start of the container and at each 'systemctl daemon-reload', and an instance "
        "is started for each. Without systemd, 'drawwell run' finds them the same way."
    )  # fmt: skip
    yield "SH", "PORTS", (
        "55000 and 55001 lie in the range from which Linux serves outgoing connections. The package keeps them back"
        " (net.ipv4.ip_local_reserved_ports, in a file of sysctl.d that sorts before all others, so that a list of "
        "yours is never overwritten); add them to a list of your own."
    )  # fmt: skip


FILES: Final = (
    ("/etc/drawwell/drawwell.toml", "The configuration; every line a comment until you change it."),
    ("/etc/drawwell/conf.d/*.toml", "Read after it, in the order of their names."),
    (
        "/var/lib/drawwell",
        "What must be remembered: quotas, consumers, certificates, the audit log. Never entropy.",
    ),
    ("/run/drawwell", "The sockets."),
    ("/dev/drawwell", "Links to the devices, by the ports that they are plugged into."),
)
