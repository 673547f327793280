"""Incus and LXD instances, changed through the API that both share."""

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
"""The parts of an instance that can be changed (InstancePut)."""
_CONTAINER: Final = "container"


class Incus:
    """The instances of the daemon on one socket.

    Args:
        path: The socket; "" for Incus's default socket, or LXD's if Incus has none.
    """

    def __init__(self, path: str = "") -> None:
        path = path or next(filter(os.path.exists, SOCKETS), SOCKETS[0])
        self._lxd = "lxd" in path.split("/")
        hint = "Start it with 'systemctl start incus' (or lxd), or run this as root or a member of its group."
        self._http = UnixHttp(path, "LXD" if self._lxd else "Incus", hint)

    def plan(self, guest: Guest) -> Plan:
        """Return the commands; see Hypervisor."""
        return plan_incus.plan(guest)

    def require(self, guest: Guest) -> None:
        """See Hypervisor."""
        self._instance(guest)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the host IDs of the instance's root; see Hypervisor."""
        config = self._instance(guest).document["config"]
        text = config.get("volatile.idmap.next") or config.get("volatile.idmap.current") or "[]"
        return _root_of(text)

    def apply(self, guest: Guest) -> list[Change]:
        """Add the device, and the keys that restore it at a restart."""
        found = self._instance(guest)
        instance = found.document
        block = raw_block(guest)
        raw = instance["config"].get(RAW_LXC, "")
        new = with_block(raw, block) if block else without_block(raw, container_name(guest))
        devices = instance["devices"] | {DEVICE: dict(device(guest))}
        return self._write(guest, found, devices, new)

    def remove(self, guest: Guest) -> list[Change]:
        """Remove the device and the keys; see Hypervisor."""
        found = self._instance(guest)
        instance = found.document
        devices = {name: each for name, each in instance["devices"].items() if name != DEVICE}
        raw = without_block(instance["config"].get(RAW_LXC, ""), container_name(guest))
        return self._write(guest, found, devices, raw)

    def inside(self, guest: Guest) -> Inside | None:
        """Return access through ``incus exec`` or ``lxc exec``; see Hypervisor."""
        word, variable = ("lxc", "LXD_SOCKET") if self._lxd else ("incus", "INCUS_SOCKET")
        return _IncusExec(word, {variable: self._http.path}, container_name(guest))

    def audit(self) -> list[GuestFacts]:
        """Return the containers; virtual machines are listed under QEMU."""
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
        """Return the parts of the instance that can be changed."""
        name = container_name(guest)
        answer = self._get(f"/1.0/instances/{quote(name)}")
        found = answer.document.get("metadata")
        if not isinstance(found, dict) or not all(
            isinstance(found.get(each), dict) for each in ("config", "devices")
        ):
            raise GuestUnavailable(
                f"the reply does not describe {name}", hint="Check that the socket belongs to Incus or LXD."
            )
        if found.get("type", _CONTAINER) != _CONTAINER:
            raise UsageError(
                f"{name} is a virtual machine: it has its own kernel",
                hint="Attach virtio-rng with kind qemu: 'drawwell guest plan qemu'.",
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
        """Wait for the background operation to finish."""
        operation = answer.document.get("operation")
        if answer.document.get("type") != "async" or not operation:
            return
        done = self._get(f"{operation}/wait?timeout=50").document.get("metadata") or {}
        if done.get("status_code") != 200:
            raise _refusal(str(done.get("err") or "the operation did not finish"), 400)

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
        """Run a program as the instance's root; see Inside."""
        command = [self.word, "exec", "-T", self.name, "--", *argv]
        outcome = program.run(command, stdin=stdin, timeout_s=timeout_s, more_env=self.environment)
        if outcome.status == program.MISSING or outcome.errors.startswith("Error: "):
            raise GuestUnavailable(
                f"cannot run a program in instance {self.name}: {program.last_line(outcome)}",
                hint=f"Start the instance with '{self.word} start {self.name}'.",
            )
        return outcome


def _root_of(id_map: str) -> tuple[int | None, int | None]:
    """Return the host's uid and gid for ID 0; None if it is not mapped."""
    try:
        entries = json.loads(id_map)
        users = [each["Hostid"] for each in entries if each["Isuid"] and each["Nsid"] == 0]
        groups = [each["Hostid"] for each in entries if each["Isgid"] and each["Nsid"] == 0]
        return (int(users[0]) if users else None, int(groups[0]) if groups else None)
    except (ValueError, TypeError, KeyError) as error:
        raise GuestUnavailable(
            "cannot read the host IDs of the instance's root", hint="Start the instance once."
        ) from error


def _refusal(message: str, status: int) -> GuestUnavailable | PermissionRefused:
    reason = "".join(each if each.isprintable() else " " for each in message)[:200] or f"status {status}"
    if status == 403:
        return PermissionRefused(f"access denied: {reason}", hint="Run this as root or in group incus-admin.")
    if status == 404:
        return GuestUnavailable(f"the instance does not exist: {reason}", hint="'incus list' shows them all.")
    if status == 412:
        return GuestUnavailable("another process changed the instance at the same time", hint="Try again.")
    return GuestUnavailable(
        f"the request was refused: {reason}",
        hint="Check the restrictions of the instance and its project: raw.lxc is not allowed in a restricted project.",
    )
