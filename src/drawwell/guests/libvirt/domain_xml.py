"""Pure: a libvirt domain's XML, to which we add and remove devices.

libvirt normalises all XML (formatdomain), so removing an added device restores the same text.
A record in <metadata> lists everything that was added.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from xml.dom import minidom
from xml.dom.minidom import Element
from xml.parsers.expat import ExpatError

from drawwell.errors import GuestUnavailable, UsageError

NAMESPACE: Final = "urn:x-drawwell:guest:1"
AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"
"""The target name of the QEMU guest agent (formatdomain, "Guest agent")."""
TAGS: Final = ("rng", "redirdev", "hostdev")
"""The elements for devices that can give a guest random bytes."""
OWN_ALIAS: Final = "ua-"
"""The prefix of user-defined aliases (formatdomain, "Devices")."""
MAX_CHARS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """A record of everything that was added to a domain for a guest."""

    name: str
    via: str
    genid: bool = False
    controllers: tuple[str, ...] = ()
    """Indices of the PCI controllers that libvirt added for our device."""
    replaced: tuple[str, ...] = ()
    """The XML of the domain's own <rng> elements, which our device replaced."""


def element(tag: str, attributes: dict[str, str] | None = None, *children: Element | str) -> Element:
    """Create an element.

    Raises:
        UsageError: XML cannot contain or preserve a character of a text.
    """
    document = minidom.Document()
    made = document.createElement(tag)
    for name, value in (attributes or {}).items():
        made.setAttribute(name, _printable(value))
    for child in children:
        made.appendChild(document.createTextNode(_printable(child)) if isinstance(child, str) else child)
    return made


def _printable(text: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(
            f"{text!r} cannot be written to a domain's XML",
            hint="Use a name or path of printable characters.",
        )
    return text


def written(made: Element) -> str:
    """Format an element, indented by two spaces, with a final newline."""
    lines = made.toprettyxml(indent="  ").splitlines()
    return "\n".join(line for line in lines if line.strip()) + "\n"


def holds(theirs: Element, ours: Element) -> bool:
    """Return whether `theirs` contains all of `ours`; it may contain more."""
    attributes = dict(ours.attributes.items())
    same = theirs.tagName == ours.tagName and all(
        theirs.getAttribute(name) == value for name, value in attributes.items()
    )
    return (
        same
        and _text(theirs) == _text(ours)
        and all(any(holds(each, child) for each in children(theirs)) for child in children(ours))
    )


def children(parent: Element, *tags: str) -> Iterator[Element]:
    """Yield the child elements, or only those with one of the given tags."""
    for node in parent.childNodes:
        if isinstance(node, Element) and (not tags or node.tagName in tags):
            yield node


def first(parent: Element | None, *path: str) -> Element | None:
    """Return the first element at this path of tags, or None."""
    for tag in path:
        parent = next(children(parent, tag), None) if parent else None
    return parent


def attribute(parent: Element | None, *path: str) -> str:
    """Return the attribute named last in the path; "" if it is missing."""
    found = first(parent, *path[:-1])
    return found.getAttribute(path[-1]) if found else ""


def text_at(parent: Element | None, *path: str) -> str:
    """Return the text of the element at this path; "" if it is missing."""
    found = first(parent, *path)
    return _text(found) if found else ""


def _text(of: Element) -> str:
    return "".join(node.data for node in of.childNodes if isinstance(node, minidom.Text)).strip()


def parsed(text: str) -> Element:
    """Parse libvirt's XML.

    Raises:
        GuestUnavailable: the XML is malformed or far too long.
    """
    if len(text) > MAX_CHARS or "<!DOCTYPE" in text:
        raise _unreadable("it is too long or has a document type")
    try:
        root = minidom.parseString(text).documentElement  # noqa: S318 - from libvirt, without a DTD
    except (ExpatError, ValueError) as error:
        raise _unreadable(str(error)) from None
    if root is None:
        raise _unreadable("it is empty")
    return root


def _unreadable(why: str) -> GuestUnavailable:
    return GuestUnavailable(
        f"libvirt's answer cannot be parsed: {why}", hint="Check the output of 'virsh dumpxml'."
    )


class Domain:
    """A domain as described by libvirt.

    Raises:
        GuestUnavailable: the text is not the XML of a domain.
    """

    def __init__(self, text: str) -> None:
        self.root = parsed(text)
        devices = first(self.root, "devices")
        if self.root.tagName != "domain" or devices is None or not self.name:
            raise _unreadable("it is not a domain with a name and devices")
        self._devices = devices

    def __str__(self) -> str:
        """Return the domain's XML for libvirt."""
        return self.root.toxml() + "\n"

    @property
    def name(self) -> str:
        """The domain's name."""
        return text_at(self.root, "name")

    @property
    def has_generation_id(self) -> bool:
        """Whether the guest has a VM generation ID."""
        return first(self.root, "genid") is not None

    @property
    def agent(self) -> str:
        """The guest agent's state; "" without a channel, "defined" if unknown."""
        for channel in children(self._devices, "channel"):
            if attribute(channel, "target", "name") == AGENT_CHANNEL:
                return attribute(channel, "target", "state") or "defined"
        return ""

    def devices(self, *tags: str) -> list[Element]:
        """Return the domain's devices with one of these tags."""
        return list(children(self._devices, *tags))

    def like(self, ours: Element) -> list[Element]:
        """Return the devices that contain everything in `ours`."""
        return [each for each in self.devices(ours.tagName) if holds(each, ours)]

    def of_guest(self, alias: str, paths: tuple[str, ...]) -> list[Element]:
        """Return the devices that have this alias or use one of the paths."""
        return [
            each
            for each in self.devices(*TAGS)
            if attribute(each, "alias", "name") == alias or source_path(each) in paths
        ]

    def disks(self, path: str) -> list[Element]:
        """Return the disks that use this image file."""
        return [each for each in self.devices("disk") if attribute(each, "source", "file") == path]

    @property
    def disk_files(self) -> list[str]:
        """The files of the domain's disks."""
        return [file for each in self.devices("disk") if (file := attribute(each, "source", "file"))]

    @property
    def disk_names(self) -> set[str]:
        """The names of the domain's disks: vda, sdb, ..."""
        return {attribute(each, "target", "dev") for each in self.devices("disk")}

    @property
    def record(self) -> Record | None:
        """The record of everything that was added, or None."""
        found = self._record()
        if found is None:
            return None
        return Record(
            name=found.getAttribute("name"),
            via=found.getAttribute("via"),
            genid=found.getAttribute("genid") == "added",
            controllers=tuple(found.getAttribute("controllers").split()),
            replaced=tuple(_text(each) for each in children(found)),
        )

    @property
    def controllers(self) -> frozenset[str]:
        """The indices of the domain's PCI controllers."""
        return frozenset(each.getAttribute("index") for each in self._pci_controllers())

    # ---- changes

    def add(self, device: Element) -> None:
        """Append a device."""
        self._devices.appendChild(device)

    def add_generation_id(self) -> None:
        """Add a VM generation ID; libvirt chooses its value."""
        self.root.appendChild(element("genid"))

    def drop(self, device: Element) -> None:
        """Remove one of the domain's devices."""
        if (parent := device.parentNode) is not None:
            parent.removeChild(device)

    def drop_generation_id(self) -> None:
        """Remove the VM generation ID."""
        for each in list(children(self.root, "genid")):
            self.drop(each)

    def drop_controllers(self, indices: tuple[str, ...]) -> None:
        """Remove these PCI controllers unless a device uses them."""
        buses = {
            int(address.getAttribute("bus") or "0", 16)
            for address in self.root.getElementsByTagName("address")
            if address.getAttribute("type") == "pci"
        }
        for each in list(self._pci_controllers()):
            index = each.getAttribute("index")
            if index in indices and int(index) not in buses:
                self.drop(each)

    def write_record(self, record: Record | None) -> None:
        """Write the record, or remove it if None."""
        old = self._record()
        metadata = first(self.root, "metadata")
        if old is not None and metadata is not None:
            metadata.removeChild(old)
        if record is not None:
            if metadata is None:
                metadata = element("metadata")
                self.root.appendChild(metadata)
            metadata.appendChild(_record_element(record))
        elif metadata is not None and not list(children(metadata)):
            self.root.removeChild(metadata)

    def _record(self) -> Element | None:
        metadata = first(self.root, "metadata")
        found = children(metadata) if metadata else iter(())
        return next((each for each in found if each.namespaceURI == NAMESPACE), None)

    def _pci_controllers(self) -> Iterator[Element]:
        found = children(self._devices, "controller")
        return (
            each
            for each in found
            if each.getAttribute("type") == "pci" and each.getAttribute("index").isdecimal()
        )


def _record_element(record: Record) -> Element:
    attributes = {"xmlns:drawwell": NAMESPACE, "name": record.name, "via": record.via}
    if record.genid:
        attributes["genid"] = "added"
    if record.controllers:
        attributes["controllers"] = " ".join(record.controllers)
    kept = [element("drawwell:replaced", None, each) for each in record.replaced]
    made = element("drawwell:guest", attributes, *kept)
    made.namespaceURI = NAMESPACE
    return made


def compact(device: Element) -> str:
    """Format a device on one line, without libvirt's runtime additions."""
    copy = parsed(device.toxml())
    for alias in list(children(copy, "alias")):
        if not alias.getAttribute("name").startswith(OWN_ALIAS):
            copy.removeChild(alias)
    return re.sub(r">\s+<", "><", copy.toxml())


def described(device: Element) -> str:
    """Describe a device, such as ``<rng> (random, /dev/urandom)``."""
    parts = [attribute(device, "backend", "model"), source_path(device)]
    known = ", ".join(filter(None, parts))
    return f"<{device.tagName}> ({known})" if known else f"<{device.tagName}>"


def source_path(device: Element) -> str:
    """Return the file or socket that feeds a device, or ""."""
    backend = first(device, "backend")
    if backend is None:
        return attribute(device, "source", "path")
    return attribute(backend, "source", "path") or _text(backend)
