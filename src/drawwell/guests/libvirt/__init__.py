"""libvirt: its domains are changed where libvirt keeps them, and while they run, and nothing but ours is touched."""

import os
import time
from dataclasses import replace
from functools import partial
from typing import Final
from xml.dom.minidom import Element

from drawwell.errors import GuestUnavailable
from drawwell.guests.edit import files
from drawwell.guests.libvirt import plan as plan_libvirt
from drawwell.guests.libvirt.audit import facts, owner_of, shared_sockets
from drawwell.guests.libvirt.bindings import Bindings
from drawwell.guests.libvirt.connection import SYSTEM, Known, LibvirtConnection, ask_agent
from drawwell.guests.libvirt.domain_xml import Domain, Record, attribute, source_path, written
from drawwell.guests.libvirt.virsh import NotInstalled, Virsh
from drawwell.guests.model import (
    Attachment,
    Change,
    Guest,
    GuestFacts,
    Hypervisor,
    Inside,
    Plan,
    guest_directory,
)
from drawwell.guests.qemu.agent import Agent
from drawwell.guests.qemu.plan import fifo
from drawwell.guests.qemu.usb_port import USB, place_of

LET_GO_S: Final = 60.0
"""A guest is asked to give a device up; under emulation that was seen to take 5 s."""
_LOOK_EVERY_S: Final = 0.2


class Libvirt:
    """A `Hypervisor`.

    Args:
        uri: Which libvirt; "" is $LIBVIRT_DEFAULT_URI, else the system's own.
        hooks: Where its hooks are; "" writes none. By itself, only those of the system's own libvirt.
        usb: Where the kernel shows USB devices.
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
        return plan_libvirt.plan(guest, self._stick(guest), uri)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """See `Hypervisor`: the domain's own label, else the one that libvirt gives every QEMU."""
        return owner_of(self._described(self._find(guest)), self._connection.capabilities())

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`. First the machine that runs, for that is what may refuse; then what libvirt keeps."""
        known = self._find(guest)
        changes = self._clear_other_way(guest, known)
        if known.live:
            changes += self._attach(known, guest, plan_libvirt.device(guest, self._stick(guest, live=True)))
        if known.persistent:
            changes += self._define(known, guest, plan_libvirt.device(guest, self._stick(guest)))
        return changes + self._write_hook(guest, known)

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`. The broker has answered what it owed, and owes nothing any more."""
        known = self._find(guest)
        changes = []
        if known.live:
            changes += self._detach(known, guest, self._ours(Domain(self._xml(known)), guest))
        if known.persistent:
            changes += self._undefine(known, guest)
        return changes + self._remove_hook(guest)

    def inside(self, guest: Guest) -> Inside | None:
        """See `Hypervisor`: by the QEMU guest agent."""
        known = self._find(guest)
        if not known.live:
            raise GuestUnavailable(f"{known.name} is shut off", hint=f"Start it: 'virsh start {known.name}'.")
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

    # ---- what libvirt says

    def _find(self, guest: Guest) -> Known:
        found = [known for known in self._connection.domains() if known.name == guest.target]
        if not found:
            raise GuestUnavailable(
                f"libvirt at {self._connection.uri} has no domain {guest.target!r}",
                hint="'virsh list --all' names them.",
            )
        return found[0]

    def _xml(self, known: Known, *, kept: bool = False) -> str:
        """The XML of the machine that runs, or of what libvirt keeps, with what only its owner may see."""
        return self._connection.describe(known.uuid, kept=kept, security_info=True)

    def _described(self, known: Known) -> Domain:
        return Domain(self._connection.describe(known.uuid))

    def _stick(self, guest: Guest, *, live: bool = False) -> tuple[int, int] | None:
        """Where the stick is now: a running QEMU has it by that; what is kept goes by it only if there are several."""
        placed = guest.via is Attachment.USB and (live or bool(guest.device))
        return place_of(guest.device, self._usb) if placed else None

    @staticmethod
    def _ours(domain: Domain, guest: Guest) -> list[Element]:
        """Its devices that are this guest's, of whatever way and rate."""
        match guest.via:
            case Attachment.USB:
                return domain.like(plan_libvirt.device(replace(guest, device="")))
            case Attachment.BUILTIN:
                return [
                    each for each in domain.devices("rng") if attribute(each, "backend", "model") == "builtin"
                ]
            case Attachment.FIFO:
                return [each for each in domain.devices("rng") if source_path(each) == fifo(guest)]
        return domain.of_directory(guest_directory(guest.run_dir, guest.name))

    # ---- what libvirt keeps

    def _define(self, known: Known, guest: Guest, wanted: Element) -> list[Change]:
        domain = Domain(self._xml(known, kept=True))
        record = domain.record or Record(guest.name, guest.via)
        ours = self._ours(domain, guest)
        done = []
        if not (len(ours) == 1 and domain.like(wanted)):
            for each in ours:
                domain.drop(each)
            domain.add(wanted)
            done.append(guest.via.value)
        if not domain.has_generation_id:
            domain.add_generation_id()
            record = replace(record, genid=True)
            done.append("a VM generation id")
        if not done:
            return []
        before = domain.controllers
        domain.write_record(record)
        self._connection.define(str(domain))
        self._note_controllers(known, record, before)
        return [
            Change(
                f"gave the domain {known.name} {' and '.join(done)}, from its next start on",
                self._connection.uri,
            )
        ]

    def _note_controllers(self, known: Known, record: Record, before: frozenset[str]) -> None:
        """Note the controllers that libvirt added by itself to have a slot, so that they go as they came."""
        domain = Domain(self._xml(known, kept=True))
        if new := tuple(sorted(domain.controllers - before)):
            domain.write_record(replace(record, controllers=(*record.controllers, *new)))
            self._connection.define(str(domain))

    def _undefine(self, known: Known, guest: Guest) -> list[Change]:
        domain = Domain(self._xml(known, kept=True))
        record, ours = domain.record, self._ours(domain, guest)
        if record is None and not ours:
            return []
        for each in ours:
            domain.drop(each)
        if record and record.genid:
            domain.drop_generation_id()
        domain.drop_controllers(record.controllers if record else ())
        domain.write_record(None)
        self._connection.define(str(domain))
        return [Change(f"took {guest.via} from the domain {known.name}", self._connection.uri)]

    def _clear_other_way(self, guest: Guest, known: Known) -> list[Change]:
        """Take away what the same guest had by another way in."""
        record = Domain(self._xml(known, kept=known.persistent)).record
        if record is None or record.name != guest.name or record.via == guest.via:
            return []
        return self.remove(replace(guest, via=Attachment(record.via)))

    # ---- the machine that runs

    def _attach(self, known: Known, guest: Guest, wanted: Element) -> list[Change]:
        domain = Domain(self._xml(known))
        ours = self._ours(domain, guest)
        if len(ours) == 1 and domain.like(wanted) and not guest.anew:
            return []
        changes = self._detach(known, guest, ours)
        self._connection.attach(known.uuid, written(wanted))
        return [
            *changes,
            Change(f"plugged {guest.via} into the running domain {known.name}", self._connection.uri),
        ]

    def _detach(self, known: Known, guest: Guest, devices: list[Element]) -> list[Change]:
        """Unplug, and wait until the guest has let go."""
        for each in devices:
            self._connection.detach(known.uuid, written(each))
        if devices:
            self._until_gone(known, guest)
            return [
                Change(f"unplugged {guest.via} from the running domain {known.name}", self._connection.uri)
            ]
        return []

    def _until_gone(self, known: Known, guest: Guest) -> None:
        deadline = time.monotonic() + LET_GO_S
        while self._ours(Domain(self._xml(known)), guest):
            if time.monotonic() > deadline:
                raise GuestUnavailable(
                    f"{known.name} did not let the device go within {LET_GO_S:g} s",
                    hint="A guest that boots, or has no ACPI hot-plug, does not: try again, or after its next start.",
                )
            time.sleep(_LOOK_EVERY_S)

    # ---- the hook

    def _write_hook(self, guest: Guest, known: Known) -> list[Change]:
        """Have libvirt reseed the guest whenever it starts, where it has an agent to do it by."""
        if (
            not self._hooks
            or not plan_libvirt.has_hook(guest)
            or not Domain(self._xml(known, kept=known.persistent)).agent
        ):
            return []
        return files.whole(plan_libvirt.hook_path(guest, self._hooks), plan_libvirt.hook(guest), mode=0o755)

    def _remove_hook(self, guest: Guest) -> list[Change]:
        return files.delete(plan_libvirt.hook_path(guest, self._hooks)) if self._hooks else []


def connect(uri: str) -> LibvirtConnection:
    """Return the libvirt at a URI, "" being $LIBVIRT_DEFAULT_URI or the system's own, without contacting it."""
    uri = uri or os.environ.get("LIBVIRT_DEFAULT_URI", "") or SYSTEM
    try:
        return Bindings(uri)
    except ImportError:
        return Virsh(uri)


def hypervisor(where: str = "") -> Hypervisor:
    """Return the domains of the libvirt at that URI; see kinds.py."""
    return Libvirt(where)
