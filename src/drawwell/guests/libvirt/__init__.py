"""libvirt: its domains are changed where libvirt keeps them, and while they run, and nothing but ours is touched."""

import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final
from xml.dom.minidom import Element

from drawwell.errors import GuestUnavailable, PermissionRefused
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
from drawwell.guests.qemu.agent import Agent
from drawwell.guests.qemu.usb_port import USB, place_of

LET_GO_S: Final = 60.0
"""A guest is asked to give a device up; under emulation that was seen to take 5 s."""
_LOOK_EVERY_S: Final = 0.2
_GENERATORS: Final = (Attachment.VIRTIO, Attachment.FIFO, Attachment.BUILTIN)
"""Ways by which the guest has an <rng>."""


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
        plan = plan_libvirt.plan(guest, self._stick(guest), uri)
        return replace(plan, notes=(*plan.notes, *self._notes(guest)))

    def _notes(self, guest: Guest) -> tuple[str, ...]:
        """Name the generators that are taken out; nothing where no domain can be looked at."""
        with suppress(GuestUnavailable, PermissionRefused, NotInstalled):
            known = self._find(guest)
            others = self._others(Domain(self._xml(known, kept=known.persistent)), guest)
            return tuple(plan_libvirt.REPLACED_NOTE.format(described(each)) for each in others)
        return ()

    def require(self, guest: Guest) -> None:
        """See `Hypervisor`."""
        self._find(guest)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """See `Hypervisor`: the domain's own label, else the one that libvirt gives every QEMU."""
        return owner_of(self._described(self._find(guest)), self._connection.capabilities())

    def apply(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`. First the machine that runs, for that is what may refuse; then what libvirt keeps."""
        known, changes = self._find(guest), list[Change]()
        if known.live:
            changes = self._attach(known, guest, plan_libvirt.device(guest, self._stick(guest, live=True)))
        if known.persistent:
            changes += self._define(known, guest, plan_libvirt.device(guest, self._stick(guest)))
        return changes + self._write_hook(guest, known)

    def remove(self, guest: Guest) -> list[Change]:
        """See `Hypervisor`. The broker has answered what it owed, and owes nothing any more."""
        known, changes = self._find(guest), list[Change]()
        record = Domain(self._xml(known, kept=known.persistent)).record
        if known.live:
            changes = self._detach(known, self._ours(Domain(self._xml(known)), guest))
            changes += self._put_back(known, record.replaced if record else ())
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
        domains = self._connection.domains()
        found = [known for known in domains if guest.target in {known.name, known.uuid}]
        if not found:
            message = f"libvirt at {self._connection.uri} has no domain {guest.target!r}"
            names = (known.name for known in domains)
            raise unknown(message, guest.target, names, "'virsh list --all' names them.")
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
        """Its devices that are this guest's, of whatever way and rate: what its owner added himself is not."""
        return domain.of_guest(plan_libvirt.alias(guest), plan_libvirt.paths(guest))

    def _others(self, domain: Domain, guest: Guest) -> list[Element]:
        """The other generators of the domain, of which its kernel might read one instead of ours."""
        if guest.via not in _GENERATORS:
            return []
        ours = self._ours(domain, guest)
        return [each for each in domain.devices("rng") if each not in ours]

    # ---- what libvirt keeps

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
            done[:] = [f"{guest.via} in the place of {' and '.join(map(described, others))}"]
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
        words = f"gave the domain {known.name} {' and '.join(done)}, from its next start on"
        return [Change(words, self._connection.uri)]

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
        for text in record.replaced if record else ():
            domain.add(parsed(text))
        if record and record.genid:
            domain.drop_generation_id()
        domain.drop_controllers(record.controllers if record else ())
        domain.write_record(None)
        self._connection.define(str(domain))
        back = ", and gave it its own <rng> back" if record and record.replaced else ""
        words = f"took {record.via if record else guest.via} from the domain {known.name}{back}"
        return [Change(words, self._connection.uri)]

    # ---- the machine that runs

    def _attach(self, known: Known, guest: Guest, wanted: Element) -> list[Change]:
        domain = Domain(self._xml(known))
        ours = self._ours(domain, guest)
        # a domain that is not kept has no place where its own would be noted
        others = self._others(domain, guest) if known.persistent else []
        if len(ours) == 1 and domain.like(wanted) and not guest.anew and not others:
            return []
        changes = self._detach(known, [*ours, *others])
        self._connection.attach(known.uuid, written(wanted))
        return [
            *changes,
            Change(f"plugged {guest.via} into the running domain {known.name}", self._connection.uri),
        ]

    def _detach(self, known: Known, devices: list[Element]) -> list[Change]:
        """Unplug, and wait until the guest has let go."""
        for each in devices:
            self._connection.detach(known.uuid, written(each))
        if not devices:
            return []
        self._until_gone(known, {_place(each) for each in devices})
        what = " and ".join(map(described, devices))
        return [Change(f"unplugged {what} from the running domain {known.name}", self._connection.uri)]

    def _put_back(self, known: Known, replaced: tuple[str, ...]) -> list[Change]:
        """Plug the domain's own generators in again, unless it has one."""
        if not replaced or Domain(self._xml(known)).devices("rng"):
            return []
        for text in replaced:
            self._connection.attach(known.uuid, text + "\n")
        words = f"plugged its own <rng> into the running domain {known.name} again"
        return [Change(words, self._connection.uri)]

    def _until_gone(self, known: Known, places: set[str]) -> None:
        deadline = time.monotonic() + LET_GO_S
        while places & {_place(each) for each in Domain(self._xml(known)).devices(*TAGS)}:
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
        called = replace(guest, domain="" if known.name == guest.name else known.name)
        return files.whole(plan_libvirt.hook_path(guest, self._hooks), plan_libvirt.hook(called), mode=0o755)

    def _remove_hook(self, guest: Guest) -> list[Change]:
        return files.delete(plan_libvirt.hook_path(guest, self._hooks)) if self._hooks else []


def _place(device: Element) -> str:
    """Return what distinguishes a device of a running domain: its alias."""
    return attribute(device, "alias", "name") or compact(device)


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
