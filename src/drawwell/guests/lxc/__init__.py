"""LXC containers: a marked block in their configuration, and lxc-attach."""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from drawwell.errors import DrawwellError, GuestUnavailable
from drawwell.guests import program
from drawwell.guests.container_facts import container_facts
from drawwell.guests.edit import files as edited
from drawwell.guests.edit.block import has_block, without_block
from drawwell.guests.edit.quoting import ACM, ACM_MAJOR, INSIDE, container_name
from drawwell.guests.lxc import plan as plan_lxc
from drawwell.guests.lxc import proxmox
from drawwell.guests.lxc.plan import HOOK, Container, block, container_of, hook_of, rule_of
from drawwell.guests.model import (
    Attachment,
    Change,
    Guest,
    GuestCommandResult,
    GuestFacts,
    GuestKind,
    Hypervisor,
    Inside,
    Plan,
    unknown,
)

LXCPATH: Final = "/var/lib/lxc"
_HOME: Final = "~/.local/share/lxc"
"""The directory of an unprivileged user's containers."""


class Lxc:
    """The containers in one directory.

    Args:
        lxcpath: The directory; "" for this user's default in LXC.
        rules: The directory of udev's rules.
        proxmox: The directory of Proxmox's configurations; "" for none.
    """

    def __init__(self, lxcpath: str = "", rules: str = "", proxmox: str = "") -> None:
        usual = LXCPATH if os.geteuid() == 0 else os.path.expanduser(_HOME)
        self._lxcpath = os.path.abspath(lxcpath or usual)
        self._rules = rules
        self._proxmox = proxmox

    def plan(self, guest: Guest) -> Plan:
        """Return the plan; a missing container is assumed to be privileged."""
        try:
            container = self._container(guest, self._config(guest))
        except GuestUnavailable:
            container = Container(self._directory(guest), rule=_rule(guest.device))
        if self._of_proxmox(guest):
            return proxmox.plan(guest, container, self._path(guest))
        return plan_lxc.plan(guest, container)

    def require(self, guest: Guest) -> None:
        """See Hypervisor."""
        self._config(guest)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return the host IDs of the container's root; see Hypervisor."""
        container = self._container(guest, self._config(guest))
        return container.uid, container.gid

    def apply(self, guest: Guest) -> list[Change]:
        """Write the block, and the hook or udev rule; see Hypervisor.

        For a container of Proxmox, the owner has to write the lines.
        """
        path, old = self._path(guest), self._config(guest)
        container = self._container(guest, old)
        if self._of_proxmox(guest):
            proxmox.require_lines(guest, container, path, old)
            return []
        changes = []
        hook, rule = hook_of(guest, container), rule_of(guest, container)
        if hook:
            changes += edited.whole(hook.into, hook.text, mode=0o755)
        if rule:
            changes += edited.whole(self._rules or rule.into, rule.text)
        changes += edited.put_block(path, old, block(guest, container))
        if not hook:
            changes += edited.delete(self._hook(guest))
        return self._with_restart(guest, changes)

    def remove(self, guest: Guest) -> list[Change]:
        """Remove the block, and the hook or udev rule; see Hypervisor."""
        path, old = self._path(guest), self._config(guest)
        if self._of_proxmox(guest):
            proxmox.require_no_lines(guest, path, old)
            return []
        changes = edited.take_block(path, old, container_name(guest))
        changes += edited.delete(self._hook(guest))
        rule = rule_of(replace(guest, via=Attachment.DEVICE, device=""), self._container(guest, old))
        if rule:
            changes += edited.delete_if(self._rules or rule.into, rule.text)
        return self._with_restart(guest, changes)

    def inside(self, guest: Guest) -> Inside | None:
        """Return access through lxc-attach; see Hypervisor."""
        return _Attach(self._lxcpath, container_name(guest))

    def audit(self) -> list[GuestFacts]:
        """Return the containers in the directory; see Hypervisor."""
        return [facts for name in self._names() if (facts := self._facts(name))]

    def _names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._lxcpath) if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise edited.refused(self._lxcpath, error) from error

    def _facts(self, name: str) -> GuestFacts | None:
        with suppress(DrawwellError):
            config = edited.read(os.path.join(self._lxcpath, name, "config"))
            ours = has_block(config, name) or f" {INSIDE[1:]} " in config
            return container_facts(GuestKind.LXC, name, running=self._runs(name), ours=ours)
        return None

    def _runs(self, name: str) -> bool:
        state = program.run(["lxc-info", "-P", self._lxcpath, "-n", name, "-s", "-H"])
        return state.output.strip() not in {b"", b"STOPPED"}

    def _with_restart(self, guest: Guest, changes: list[Change]) -> list[Change]:
        if changes and self._runs(container_name(guest)):
            changes.append(Change("the container runs: takes effect on restart", container_name(guest)))
        return changes

    def _directory(self, guest: Guest) -> str:
        return os.path.join(self._lxcpath, container_name(guest))

    def _of_proxmox(self, guest: Guest) -> str:
        """Return the path of the container's file in Proxmox, or ""."""
        path = os.path.join(self._proxmox, f"{container_name(guest)}.conf")
        return path if self._proxmox and os.path.exists(path) else ""

    def _path(self, guest: Guest) -> str:
        return self._of_proxmox(guest) or os.path.join(self._directory(guest), "config")

    def _hook(self, guest: Guest) -> str:
        return os.path.join(self._directory(guest), HOOK)

    def _config(self, guest: Guest) -> str:
        try:
            config = edited.read(self._path(guest))
            return proxmox.as_lxc(config) if self._of_proxmox(guest) else config
        except GuestUnavailable as error:
            name = container_name(guest)
            hint = "Create it with lxc-create, or set its directory with --connect."
            raise unknown(f"no container {name} in {self._lxcpath}", name, self._names(), hint) from error

    def _container(self, guest: Guest, config: str) -> Container:
        own = without_block(config, container_name(guest))
        return container_of(self._directory(guest), own, _included, _rule(guest.device))


def hypervisor(where: str = "") -> Hypervisor:
    """Return LXC; `where` is the lxcpath, or "" for LXC's and Proxmox's."""
    return Lxc(where, proxmox="" if where else proxmox.CONFIGS)


_ATTACH_ERRORS: Final = ("lxc-attach: ", "lxc-attach is not installed")


@dataclass(frozen=True, slots=True)
class _Attach:
    lxcpath: str
    name: str

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run a program as the container's root; see Inside."""
        attach = ["lxc-attach", "-P", self.lxcpath, "-n", self.name, "--clear-env", "--", *argv]
        outcome = program.run(attach, stdin=stdin, timeout_s=timeout_s)
        messages = outcome.errors.splitlines()
        # a program's own errors follow any warnings from lxc-attach
        if outcome.status and messages and all(line.startswith(_ATTACH_ERRORS) for line in messages):
            raise GuestUnavailable(
                f"cannot run a program in container {self.name}: {program.last_line(outcome)}",
                hint=f"Run this as root, or start the container: lxc-start -P {self.lxcpath} -n {self.name}.",
            )
        return outcome


def _included(path: str) -> str:
    """Return an included file, or all .conf files of an included directory."""
    files = sorted(Path(path).glob("*.conf")) if os.path.isdir(path) else [Path(path)]
    texts = []
    for file in files:
        with suppress(DrawwellError):
            texts.append(edited.read(str(file)))
    return "\n".join(texts)


def _rule(device: str) -> str:
    """Return a device in cgroup syntax, with all minor numbers for a stick."""
    try:
        node = os.stat(device) if device else None
    except OSError:
        node = None
    if node is None or not stat.S_ISCHR(node.st_mode) or os.major(node.st_rdev) == ACM_MAJOR:
        return ACM
    return f"c {os.major(node.st_rdev)}:{os.minor(node.st_rdev)}"
