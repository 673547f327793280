"""Incus and LXD: instances are changed by the API on their socket, which the two have in common."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from drawwell.errors import GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests import program
from drawwell.guests.container_facts import container_facts
from drawwell.guests.edit.block import with_block, without_block
from drawwell.guests.edit.quoting import container_name
from drawwell.guests.incus import plan as plan_incus
from drawwell.guests.incus.plan import DEVICE, RAW_LXC, device, raw_block
from drawwell.guests.incus.unix_http import IncusReply, UnixHttp
from drawwell.guests.model import (
    Change,
    Guest,
    GuestCommandResult,
    GuestFacts,
    GuestKind,
    Hypervisor,
    Inside,
    Plan,
)

SOCKETS: Final = (
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
)
_WRITABLE: Final = (
    "architecture",
    "config",
    "description",
    "devices",
    "ephemeral",
    "profiles",
    "stateful",
)
"""What of an instance is written back (InstancePut)."""
_CONTAINER: Final = "container"


class Incus:
    """The instances behind one socket.

    Args:
        path: That socket; "" is Incus's own, or LXD's where there is no Incus.
    """

    def __init__(self, path: str = "") -> None:
        path = path or next(filter(os.path.exists, SOCKETS), SOCKETS[0])
        self._lxd = "lxd" in path.split("/")
        hint = "Start it (systemctl start incus, or lxd), or ask as root or as a member of its group."
        self._http = UnixHttp(path, "LXD" if self._lxd else "Incus", hint)

    def plan(self, guest: Guest) -> Plan:
        """Return the commands; see Hypervisor."""
        return plan_incus.plan(guest)

    def require(self, guest: Guest) -> None:
        """See Hypervisor."""
        self._instance(guest)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return who root of the instance is out here; see Hypervisor."""
        config = self._instance(guest).document["config"]
        text = config.get("volatile.idmap.next") or config.get("volatile.idmap.current") or "[]"
        return _root_of(text)

    def apply(self, guest: Guest) -> list[Change]:
        """Add the device, and the keys that bring it back at the next start; see Hypervisor."""
        found = self._instance(guest)
        instance = found.document
        block = raw_block(guest)
        raw = instance["config"].get(RAW_LXC, "")
        new = with_block(raw, block) if block else without_block(raw, container_name(guest))
        devices = instance["devices"] | {DEVICE: dict(device(guest))}
        return self._write(guest, found, devices, new)

    def remove(self, guest: Guest) -> list[Change]:
        """Take both away; see Hypervisor."""
        found = self._instance(guest)
        instance = found.document
        devices = {name: each for name, each in instance["devices"].items() if name != DEVICE}
        raw = without_block(instance["config"].get(RAW_LXC, ""), container_name(guest))
        return self._write(guest, found, devices, raw)

    def inside(self, guest: Guest) -> Inside | None:
        """Return ``incus exec``, or LXD's ``lxc exec``; see Hypervisor."""
        word, variable = ("lxc", "LXD_SOCKET") if self._lxd else ("incus", "INCUS_SOCKET")
        return _IncusExec(word, {variable: self._http.path}, container_name(guest))

    def audit(self) -> list[GuestFacts]:
        """Return the containers; see Hypervisor. Its virtual machines are QEMU's matter."""
        if not os.path.exists(self._http.path):
            return []
        listed = self._get("/1.0/instances?recursion=1&all-projects=true").document
        return [
            container_facts(
                GuestKind.INCUS,
                str(each.get("name")),
                running=each.get("status") == "Running",
                ours=DEVICE in (each.get("expanded_devices") or {}),
            )
            for each in listed.get("metadata") or ()
            if each.get("type") == _CONTAINER
        ]

    def _instance(self, guest: Guest) -> IncusReply:
        """The instance as it is: what can be written of it."""
        name = container_name(guest)
        answer = self._get(f"/1.0/instances/{quote(name)}")
        found = answer.document.get("metadata")
        if not isinstance(found, dict) or not all(
            isinstance(found.get(each), dict) for each in ("config", "devices")
        ):
            raise GuestUnavailable(
                f"what answers says nothing of {name}", hint="See that it is Incus or LXD."
            )
        if found.get("type", _CONTAINER) != _CONTAINER:
            raise UsageError(
                f"{name} is a virtual machine: it has a kernel of its own",
                hint="Give it virtio-rng as kind qemu: 'drawwell guest plan qemu'.",
            )
        return IncusReply(answer.status, {key: found[key] for key in _WRITABLE if key in found}, answer.etag)

    def _write(self, guest: Guest, found: IncusReply, devices: Mapping[str, Any], raw: str) -> list[Change]:
        old, name = found.document, container_name(guest)
        config = {key: value for key, value in old["config"].items() if key != RAW_LXC}
        if raw:
            config[RAW_LXC] = raw
        changed = [
            Change("changed", f"{name}: {what}")
            for what, before, after in (
                (f"device {DEVICE}", old["devices"], devices),
                (RAW_LXC, old["config"], config),
            )
            if before != after
        ]
        if changed:
            self._finish(
                self._asked(
                    "PUT",
                    f"/1.0/instances/{quote(name)}",
                    old | {"config": config, "devices": devices},
                    found.etag,
                )
            )
        return changed

    def _finish(self, answer: IncusReply) -> None:
        """Wait for what goes on in the background."""
        operation = answer.document.get("operation")
        if answer.document.get("type") != "async" or not operation:
            return
        done = self._get(f"{operation}/wait?timeout=50").document.get("metadata") or {}
        if done.get("status_code") != 200:
            raise _refusal(str(done.get("err") or "it did not end"), 400)

    def _get(self, target: str) -> IncusReply:
        return self._asked("GET", target)

    def _asked(
        self, method: str, target: str, document: dict[str, Any] | None = None, etag: str = ""
    ) -> IncusReply:
        answer = self._http.ask(method, target, document, etag)
        if answer.document.get("type") == "error" or answer.status >= 400:
            raise _refusal(str(answer.document.get("error", "")), answer.status)
        return answer


def hypervisor(where: str = "") -> Hypervisor:
    """Return Incus or LXD; `where` is its socket."""
    return Incus(where)


@dataclass(frozen=True, slots=True)
class _IncusExec:
    word: str
    environment: dict[str, str]
    name: str

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run it as the instance's root; see Inside."""
        command = [self.word, "exec", "-T", self.name, "--", *argv]
        outcome = program.run(command, stdin=stdin, timeout_s=timeout_s, more_env=self.environment)
        if outcome.status == program.MISSING or outcome.errors.startswith("Error: "):
            raise GuestUnavailable(
                f"instance {self.name} is not to be looked into: {program.last_line(outcome)}",
                hint=f"Start it: {self.word} start {self.name}.",
            )
        return outcome


def _root_of(id_map: str) -> tuple[int | None, int | None]:
    """Who number 0 in there is out here; None for both where nothing is mapped."""
    try:
        entries = json.loads(id_map)
        users = [each["Hostid"] for each in entries if each["Isuid"] and each["Nsid"] == 0]
        groups = [each["Hostid"] for each in entries if each["Isgid"] and each["Nsid"] == 0]
        return (int(users[0]) if users else None, int(groups[0]) if groups else None)
    except (ValueError, TypeError, KeyError) as error:
        raise GuestUnavailable(
            "who root of that instance is out here cannot be read", hint="Start the instance once."
        ) from error


def _refusal(said: str, status: int) -> GuestUnavailable | PermissionRefused:
    words = "".join(each if each.isprintable() else " " for each in said)[:200] or f"status {status}"
    if status == 403:
        return PermissionRefused(f"it refuses: {words}", hint="Ask as root or as a member of incus-admin.")
    if status == 404:
        return GuestUnavailable(f"it knows no such instance: {words}", hint="See 'incus list'.")
    if status == 412:
        return GuestUnavailable("somebody else changed the instance meanwhile", hint="Try again.")
    return GuestUnavailable(
        f"it refuses: {words}",
        hint="See what the instance or its project forbids: raw.lxc needs a project without restrictions.",
    )
