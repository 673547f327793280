"""libvirt domains, changed in their stored configuration and at run time."""

import os
import shlex
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final
from urllib.parse import urlsplit
from xml.dom.minidom import Element

from drawwell.errors import GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.cloud_init import is_cloud_init, two_disks
from drawwell.guests.edit import files
from drawwell.guests.libvirt import plan as plan_libvirt
from drawwell.guests.libvirt.audit import facts, owner_of, shared_sockets
from drawwell.guests.libvirt.bindings import Bindings
from drawwell.guests.libvirt.connection import SYSTEM, Known, LibvirtConnection, ask_agent
from drawwell.guests.libvirt.domain_xml import (
    TAGS,
    Domain,
    Record,
    attribute,
    compact,
    described,
    parsed,
    written,
)
from drawwell.guests.libvirt.virsh import NotInstalled, Virsh
from drawwell.guests.model import (
    Attachment,
    Change,
    Guest,
    GuestFacts,
    Hypervisor,
    Inside,
    Plan,
    unknown,
)
from drawwell.guests.qemu import plan as plan_qemu
from drawwell.guests.qemu.agent import Agent
from drawwell.guests.qemu.usb_port import USB, place_of

RELEASE_S: Final = 60.0
"""Timeout for the guest to release a device; under emulation, the release took up to 5 s."""
_LOOK_EVERY_S: Final = 0.2
_GENERATORS: Final = (Attachment.VIRTIO, Attachment.FIFO, Attachment.BUILTIN)
"""The attachments that use an <rng> element."""


class Libvirt:
    """A `Hypervisor`.

    Args:
        uri: The connection; "" for $LIBVIRT_DEFAULT_URI, or else the system's libvirt.
        hooks: The directory of libvirt's hooks; "" for none. Default: the system libvirt's.
        usb: The directory of USB devices in sysfs.
    """

    def __init__(self, uri: str = "", hooks: str | None = None, usb: str = USB) -> None:
        self._connection = connect(uri)
        if hooks is None:
            hooks = plan_libvirt.HOOKS if self._connection.uri == SYSTEM else ""
        self._hooks = hooks
        self._usb = usb

    def plan(self, guest: Guest) -> Plan:
        """See `Hypervisor`."""
        uri = "" if self._connection.uri == SYSTEM else self._connection.uri
        plan = plan_libvirt.plan(guest, self._stick(guest), uri)
        return replace(plan, notes=(*plan.notes, *self._remote(guest), *self._notes(guest)))

    def _remote(self, guest: Guest) -> tuple[str, ...]:
        """Warn that a remote libvirt cannot reach a socket on this host."""
        host = urlsplit(self._connection.uri).hostname
        return (plan_libvirt.REMOTE_NOTE.format(host),) if host and guest.socket else ()

    def _notes(self, guest: Guest) -> tuple[str, ...]:
        """List the other generators; empty if the domain cannot be read."""
        with suppress(GuestUnavailable, PermissionRefused, NotInstalled):
            known = self._find(guest)
            others = self._others(Domain(self._xml(known, kept=known.persistent)), guest)
            note = plan_libvirt.REPLACED_NOTE if known.persistent else plan_qemu.OTHERS_NOTE
            return tuple(note.format(described(each)) for each in others)
        return ()

    def require(self, guest: Guest) -> None:
        """See `Hypervisor`."""
        self._find(guest)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the domain's DAC label, or libvirt's default; see `Hypervisor`."""
        return owner_of(self._described(self._find(guest)), self._connection.capabilities())

    def apply(self, guest: Guest) -> list[Change]:
        """Change the running machine (it may refuse), then the stored domain."""
        known, changes = self._find(guest), list[Change]()
        if guest.seed and not known.persistent:
            raise UsageError(
                f"the domain {known.name} is transient, so a seed for its next start is not possible",
                hint="Omit --seed, or define the domain first.",
            )
        kept = Domain(self._xml(known, kept=known.persistent))
        if guest.via is Attachment.USB and plan_libvirt.sticks_of_owner(kept, guest):
            raise UsageError(
                f"the domain {known.name} already has a <hostdev> for a OneRNG",
                hint="One <hostdev> is enough: keep it, or remove it with 'virsh edit' and run the command again.",
            )
        if known.live:
            changes = self._attach(known, guest, plan_libvirt.device(guest, self._stick(guest, live=True)))
        if known.persistent:
            changes += self._define(known, guest, plan_libvirt.device(guest, self._stick(guest)))
        return changes + self._write_hook(guest, known)

    def remove(self, guest: Guest) -> list[Change]:
        """Detach the device; the broker must have answered all requests already."""
        known, changes = self._find(guest), list[Change]()
        record = Domain(self._xml(known, kept=known.persistent)).record
        if known.live:
            changes = self._detach(known, self._ours(Domain(self._xml(known)), guest))
            changes += self._put_back(known, record.replaced if record else ())
        if known.persistent:
            changes += self._undefine(known, guest)
        return changes + self._remove_hook(guest)

    def inside(self, guest: Guest) -> Inside | None:
        """Return access through the QEMU guest agent; see `Hypervisor`."""
        known = self._find(guest)
        if not known.live:
            start = f"virsh start {shlex.quote(known.name)}"
            raise GuestUnavailable(f"{known.name} is shut off", hint=f"Start it: {start}")
        if Domain(self._xml(known)).agent != "connected":
            return None
        return Agent(partial(ask_agent, self._connection, known.uuid))

    def audit(self) -> list[GuestFacts]:
        """See `Hypervisor`."""
        try:
            found = [(known, self._described(known)) for known in self._connection.domains()]
        except NotInstalled:
            return []
        shared = shared_sockets(domain for _, domain in found)
        return [facts(domain, running=known.live, shared=shared) for known, domain in found]

    # ---- queries

    def _find(self, guest: Guest) -> Known:
        domains = self._connection.domains()
        found = [known for known in domains if guest.target in {known.name, known.uuid}]
        if not found:
            message = f"libvirt at {self._connection.uri} has no domain {guest.target!r}"
            names = (known.name for known in domains)
            raise unknown(message, guest.target, names, "'virsh list --all' shows the domains.")
        return found[0]

    def _xml(self, known: Known, *, kept: bool = False) -> str:
        """Return the running or `kept` XML, with the parts only its owner may see."""
        return self._connection.describe(known.uuid, kept=kept, security_info=True)

    def _described(self, known: Known) -> Domain:
        return Domain(self._connection.describe(known.uuid))

    def _stick(self, guest: Guest, *, live: bool = False) -> tuple[int, int] | None:
        """Find the stick if the machine runs (`live`) or the guest names one."""
        placed = guest.via is Attachment.USB and (live or bool(guest.device))
        return place_of(guest.device, self._usb) if placed else None

    @staticmethod
    def _ours(domain: Domain, guest: Guest) -> list[Element]:
        """Return this guest's devices, regardless of attachment and rate."""
        return domain.of_guest(plan_libvirt.alias(guest), plan_libvirt.paths(guest))

    def _others(self, domain: Domain, guest: Guest) -> list[Element]:
        """Return the domain's other generators; its kernel may use them instead."""
        if guest.via not in _GENERATORS:
            return []
        ours = self._ours(domain, guest)
        return [each for each in domain.devices("rng") if each not in ours]

    # ---- the stored domain

    def _define(self, known: Known, guest: Guest, wanted: Element) -> list[Change]:
        domain = Domain(self._xml(known, kept=True))
        record = domain.record or Record(guest.name, guest.via)
        ours, others, done = self._ours(domain, guest), self._others(domain, guest), []
        if not (len(ours) == 1 and domain.like(wanted)):
            for each in ours:
                domain.drop(each)
            domain.add(wanted)
            record = replace(record, via=guest.via)
            done.append(guest.via.value)
        for each in others:
            domain.drop(each)
            record = replace(record, replaced=(*record.replaced, compact(each)))
        if others:
            done[:] = [f"{guest.via} instead of {' and '.join(map(described, others))}"]
        if not domain.has_generation_id:
            domain.add_generation_id()
            record = replace(record, genid=True)
            done.append("a VM generation ID")
        done += self._seeded(domain, guest)
        if not done:
            return []
        before = domain.controllers
        domain.write_record(record)
        self._connection.define(str(domain))
        self._note_controllers(known, record, before)
        what = f"the domain {known.name} has {' and '.join(done)} from its next start on"
        return [Change(what, self._connection.uri)]

    @staticmethod
    def _seeded(domain: Domain, guest: Guest) -> list[str]:
        """Add or remove the disk with the seed for the first boot."""
        ours = domain.disks(guest.seed_image)
        gone = [*plan_libvirt.seeds_of_others(domain, guest), *([] if guest.seed else ours)]
        for each in gone:
            domain.drop(each)
        if not guest.seed or ours:
            return ["no seed"] if gone else []
        if any(map(is_cloud_init, domain.disk_files)):
            raise two_disks(f"the domain {domain.name}")
        domain.add(plan_libvirt.seed_disk(guest, domain.disk_names))
        return ["a seed for its first boot"]

    def _note_controllers(self, known: Known, record: Record, before: frozenset[str]) -> None:
        """Record the PCI controllers that libvirt added for the device."""
        domain = Domain(self._xml(known, kept=True))
        if new := tuple(sorted(domain.controllers - before)):
            domain.write_record(replace(record, controllers=(*record.controllers, *new)))
            self._connection.define(str(domain))

    def _undefine(self, known: Known, guest: Guest) -> list[Change]:
        domain = Domain(self._xml(known, kept=True))
        record = domain.record
        ours = [*self._ours(domain, guest), *domain.disks(guest.seed_image)]
        if record is None and not ours:
            return []
        for each in ours:
            domain.drop(each)
        for text in record.replaced if record else ():
            domain.add(parsed(text))
        if record and record.genid:
            domain.drop_generation_id()
        domain.drop_controllers(record.controllers if record else ())
        domain.write_record(None)
        self._connection.define(str(domain))
        back = ", and restored its own <rng>" if record and record.replaced else ""
        what = f"removed {record.via if record else guest.via} from the domain {known.name}{back}"
        return [Change(what, self._connection.uri)]

    # ---- the running machine

    def _attach(self, known: Known, guest: Guest, wanted: Element) -> list[Change]:
        domain = Domain(self._xml(known))
        ours = self._ours(domain, guest)
        others = self._others(domain, guest)
        # A transient domain cannot store a record of its own generators.
        others, kept = (others, []) if known.persistent else ([], others)
        if len(ours) == 1 and domain.like(wanted) and not guest.replug and not others:
            return []
        changes = self._detach(known, [*ours, *others])
        self._connection.attach(known.uuid, written(wanted))
        return [
            *changes,
            Change(f"plugged {guest.via} into the running domain {known.name}", self._connection.uri),
            *(plan_qemu.kept(f"domain {known.name}", described(each)) for each in kept),
        ]

    def _detach(self, known: Known, devices: list[Element]) -> list[Change]:
        """Unplug devices, and wait until the guest has released them."""
        for each in devices:
            self._connection.detach(known.uuid, written(each))
        if not devices:
            return []
        self._until_gone(known, {_place(each) for each in devices})
        what = " and ".join(map(described, devices))
        return [Change(f"unplugged {what} from the running domain {known.name}", self._connection.uri)]

    def _put_back(self, known: Known, replaced: tuple[str, ...]) -> list[Change]:
        """Plug the domain's own generators in again, unless the domain has one."""
        if not replaced or Domain(self._xml(known)).devices("rng"):
            return []
        for text in replaced:
            self._connection.attach(known.uuid, text + "\n")
        what = f"restored the <rng> of the running domain {known.name}"
        return [Change(what, self._connection.uri)]

    def _until_gone(self, known: Known, places: set[str]) -> None:
        deadline = time.monotonic() + RELEASE_S
        while places & {_place(each) for each in Domain(self._xml(known)).devices(*TAGS)}:
            if time.monotonic() > deadline:
                raise GuestUnavailable(
                    f"{known.name} did not release the device within {RELEASE_S:g} s",
                    hint="A guest cannot release a device while it boots, or without ACPI hot-plug. Try again "
                    "later, or after a restart.",
                )
            time.sleep(_LOOK_EVERY_S)

    # ---- the hook

    def _write_hook(self, guest: Guest, known: Known) -> list[Change]:
        """Install the hook that reseeds the guest by its agent at each start."""
        if (
            not self._hooks
            or not plan_libvirt.has_hook(guest)
            or not Domain(self._xml(known, kept=known.persistent)).agent
        ):
            return []
        called = replace(guest, domain="" if known.name == guest.name else known.name)
        return files.whole(plan_libvirt.hook_path(guest, self._hooks), plan_libvirt.hook(called), mode=0o755)

    def _remove_hook(self, guest: Guest) -> list[Change]:
        return files.delete(plan_libvirt.hook_path(guest, self._hooks)) if self._hooks else []


def _place(device: Element) -> str:
    """Return a running device's alias, or its XML if it has none."""
    return attribute(device, "alias", "name") or compact(device)


def connect(uri: str) -> LibvirtConnection:
    """Return a connection to a URI, not yet opened; "" as for `Libvirt`."""
    uri = uri or os.environ.get("LIBVIRT_DEFAULT_URI", "") or SYSTEM
    try:
        return Bindings(uri)
    except ImportError:
        return Virsh(uri)


def hypervisor(where: str = "") -> Hypervisor:
    """Return the domains of the libvirt at a URI; see kinds.py."""
    return Libvirt(where)
