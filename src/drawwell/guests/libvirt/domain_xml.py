"""A libvirt domain's XML: what of ours is in it, and how it reads with it and without. Pure: text in, text out.

libvirt writes the XML, and writes it anew whatever we hand back (formatdomain), so that a domain to which something was
added and from which it was taken again reads as before. What was added stands in a record of ours in <metadata>.
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
"""Where libvirt looks for the QEMU guest agent (formatdomain, "Guest agent")."""
TAGS: Final = ("rng", "redirdev", "hostdev")
"""The devices by which a guest gets bytes."""
OWN_ALIAS: Final = "ua-"
"""How the aliases begin that are not libvirt's own (formatdomain, "Devices")."""
MAX_CHARS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """What was added to a domain: for which guest, and what besides its device must go when that goes."""

    name: str
    via: str
    genid: bool = False
    controllers: tuple[str, ...] = ()
    """Indices of the PCI controllers that libvirt added to have a slot for the device."""
    replaced: tuple[str, ...] = ()
    """The XML of the domain's own <rng> elements, which the device is there instead of."""


def element(tag: str, attributes: dict[str, str] | None = None, *children: Element | str) -> Element:
    """Make an element.

    Raises:
        UsageError: a text has characters that no XML can hold or that it would not keep.
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
            f"{text!r} cannot be written into a domain's XML",
            hint="Use a name or path of printable characters.",
        )
    return text


def written(made: Element) -> str:
    """Write an element of ours as people read it, two spaces deep, with a newline at its end."""
    lines = made.toprettyxml(indent="  ").splitlines()
    return "\n".join(line for line in lines if line.strip()) + "\n"


def holds(theirs: Element, ours: Element) -> bool:
    """Is everything of `ours` in `theirs`, whatever libvirt wrote beside it (an alias, an address)?"""
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
    """Yield the elements right below, those of the tags if any is named."""
    for node in parent.childNodes:
        if isinstance(node, Element) and (not tags or node.tagName in tags):
            yield node


def first(parent: Element | None, *path: str) -> Element | None:
    """Return the first element at that path of tags, None when there is none."""
    for tag in path:
        parent = next(children(parent, tag), None) if parent else None
    return parent


def attribute(parent: Element | None, *path: str) -> str:
    """Return an attribute's value; the last of the path is its name, "" stands for one that is not there."""
    found = first(parent, *path[:-1])
    return found.getAttribute(path[-1]) if found else ""


def text_at(parent: Element | None, *path: str) -> str:
    """Return the text of the element at that path, "" where there is none."""
    found = first(parent, *path)
    return _text(found) if found else ""


def _text(of: Element) -> str:
    return "".join(node.data for node in of.childNodes if isinstance(node, minidom.Text)).strip()


def parsed(text: str) -> Element:
    """Read what libvirt wrote.

    Raises:
        GuestUnavailable: that is no XML, or far too much.
    """
    if len(text) > MAX_CHARS or "<!DOCTYPE" in text:
        raise _unreadable("it is too long, or has a document type")
    try:
        root = minidom.parseString(text).documentElement  # noqa: S318 - from libvirt, and without a DTD
    except (ExpatError, ValueError) as error:
        raise _unreadable(str(error)) from None
    if root is None:
        raise _unreadable("it is empty")
    return root


def _unreadable(why: str) -> GuestUnavailable:
    return GuestUnavailable(
        f"libvirt's answer cannot be read: {why}", hint="Look at 'virsh dumpxml' yourself."
    )


class Domain:
    """A domain as libvirt describes it.

    Raises:
        GuestUnavailable: it is no domain's XML.
    """

    def __init__(self, text: str) -> None:
        self.root = parsed(text)
        devices = first(self.root, "devices")
        if self.root.tagName != "domain" or devices is None or not self.name:
            raise _unreadable("it is no domain with a name and devices")
        self._devices = devices

    def __str__(self) -> str:
        """Write it for libvirt."""
        return self.root.toxml() + "\n"

    @property
    def name(self) -> str:
        """Its name."""
        return text_at(self.root, "name")

    @property
    def has_generation_id(self) -> bool:
        """Does its guest see a VM generation id?"""
        return first(self.root, "genid") is not None

    @property
    def agent(self) -> str:
        """The QEMU guest agent: "" when it has no channel for one, else its state ("" is unknown then: ``defined``)."""
        for channel in children(self._devices, "channel"):
            if attribute(channel, "target", "name") == AGENT_CHANNEL:
                return attribute(channel, "target", "state") or "defined"
        return ""

    def devices(self, *tags: str) -> list[Element]:
        """Return its devices of those tags."""
        return list(children(self._devices, *tags))

    def like(self, ours: Element) -> list[Element]:
        """Return the devices that hold everything of `ours`."""
        return [each for each in self.devices(ours.tagName) if holds(each, ours)]

    def of_guest(self, alias: str, paths: tuple[str, ...]) -> list[Element]:
        """Return the devices of that alias, and those that are fed from one of the paths."""
        return [
            each
            for each in self.devices(*TAGS)
            if attribute(each, "alias", "name") == alias or source_path(each) in paths
        ]

    @property
    def record(self) -> Record | None:
        """What of ours it was given, None where nothing was."""
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
        """The indices of its PCI controllers."""
        return frozenset(each.getAttribute("index") for each in self._pci_controllers())

    # ---- changes

    def add(self, device: Element) -> None:
        """Give it a device."""
        self._devices.appendChild(device)

    def add_generation_id(self) -> None:
        """Have it show its guest a VM generation id, whose value libvirt makes."""
        self.root.appendChild(element("genid"))

    def drop(self, device: Element) -> None:
        """Take a device of its own away."""
        if (parent := device.parentNode) is not None:
            parent.removeChild(device)

    def drop_generation_id(self) -> None:
        """Take the VM generation id away."""
        for each in list(children(self.root, "genid")):
            self.drop(each)

    def drop_controllers(self, indices: tuple[str, ...]) -> None:
        """Take those PCI controllers away, as far as nothing sits on them."""
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
        """Note what it was given; None takes the note away."""
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
    """Write a device in one line, without what libvirt adds while it runs."""
    copy = parsed(device.toxml())
    for alias in list(children(copy, "alias")):
        if not alias.getAttribute("name").startswith(OWN_ALIAS):
            copy.removeChild(alias)
    return re.sub(r">\s+<", "><", copy.toxml())


def described(device: Element) -> str:
    """Describe a device in a line: ``<rng> (random, /dev/urandom)``."""
    words = [attribute(device, "backend", "model"), source_path(device)]
    known = ", ".join(filter(None, words))
    return f"<{device.tagName}> ({known})" if known else f"<{device.tagName}>"


def source_path(device: Element) -> str:
    """Return the file or socket that an <rng> or <redirdev> is fed from, "" for none."""
    backend = first(device, "backend")
    if backend is None:
        return attribute(device, "source", "path")
    return attribute(backend, "source", "path") or _text(backend)
