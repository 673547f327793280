"""LXC's containers: their configuration is edited in a marked block, and looked into with lxc-attach."""

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
from drawwell.guests.edit.block import has_block, with_block, without_block
from drawwell.guests.edit.quoting import ACM, ACM_MAJOR, INSIDE, container_name
from drawwell.guests.lxc import plan as plan_lxc
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
"""Where the containers of a user who is not root are."""


class Lxc:
    """The containers in one directory.

    Args:
        lxcpath: That directory; "" is LXC's own, root's or the user's.
        rules: Where udev has its rules.
    """

    def __init__(self, lxcpath: str = "", rules: str = "") -> None:
        usual = LXCPATH if os.geteuid() == 0 else os.path.expanduser(_HOME)
        self._lxcpath = os.path.abspath(lxcpath or usual)
        self._rules = rules

    def plan(self, guest: Guest) -> Plan:
        """Plan for the container as it is, or for a privileged one where there is none; see Hypervisor."""
        try:
            container = self._container(guest, self._config(guest))
        except GuestUnavailable:
            container = Container(self._directory(guest), rule=_rule(guest.device))
        return plan_lxc.plan(guest, container)

    def require(self, guest: Guest) -> None:
        """See Hypervisor."""
        self._config(guest)

    def owner(self, guest: Guest) -> tuple[int | None, int | None]:
        """Return who its root is out here; see Hypervisor."""
        container = self._container(guest, self._config(guest))
        return container.uid, container.gid

    def apply(self, guest: Guest) -> list[Change]:
        """Write the block, and the hook or the rule that goes with it; see Hypervisor."""
        path, old = self._path(guest), self._config(guest)
        container = self._container(guest, old)
        new = with_block(old, block(guest, container))
        changes = []
        hook, rule = hook_of(guest, container), rule_of(guest, container)
        if hook:
            changes += edited.whole(hook.into, hook.text, mode=0o755)
        if rule:
            changes += edited.whole(self._rules or rule.into, rule.text)
        changes += edited.edit(path, old, new)
        if not hook:
            changes += edited.delete(self._hook(guest))
        return self._told(guest, changes)

    def remove(self, guest: Guest) -> list[Change]:
        """Take the block out, and what went with it; see Hypervisor."""
        path, old = self._path(guest), self._config(guest)
        changes = edited.restore(path, old, without_block(old, container_name(guest)))
        changes += edited.delete(self._hook(guest))
        rule = rule_of(replace(guest, via=Attachment.DEVICE, device=""), self._container(guest, old))
        if rule:
            changes += edited.delete_if(self._rules or rule.into, rule.text)
        return self._told(guest, changes)

    def inside(self, guest: Guest) -> Inside | None:
        """Return lxc-attach; see Hypervisor."""
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

    def _told(self, guest: Guest, changes: list[Change]) -> list[Change]:
        if changes and self._runs(container_name(guest)):
            changes.append(Change("runs: this holds when it is started again", container_name(guest)))
        return changes

    def _directory(self, guest: Guest) -> str:
        return os.path.join(self._lxcpath, container_name(guest))

    def _path(self, guest: Guest) -> str:
        return os.path.join(self._directory(guest), "config")

    def _hook(self, guest: Guest) -> str:
        return os.path.join(self._directory(guest), HOOK)

    def _config(self, guest: Guest) -> str:
        try:
            return edited.read(self._path(guest))
        except GuestUnavailable as error:
            name = container_name(guest)
            hint = "Make it with lxc-create, or name the directory where it is."
            raise unknown(f"no container {name} in {self._lxcpath}", name, self._names(), hint) from error

    def _container(self, guest: Guest, config: str) -> Container:
        own = without_block(config, container_name(guest))
        return container_of(self._directory(guest), own, _included, _rule(guest.device))


def hypervisor(where: str = "") -> Hypervisor:
    """Return LXC; `where` is its lxcpath."""
    return Lxc(where)


_ATTACH_SAYS: Final = ("lxc-attach: ", "lxc-attach is not installed")


@dataclass(frozen=True, slots=True)
class _Attach:
    lxcpath: str
    name: str

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run it as the container's root; see Inside."""
        attach = ["lxc-attach", "-P", self.lxcpath, "-n", self.name, "--clear-env", "--", *argv]
        outcome = program.run(attach, stdin=stdin, timeout_s=timeout_s)
        said = outcome.errors.splitlines()
        # a program's own words come after warnings of lxc-attach, when it has some
        if outcome.status and said and all(line.startswith(_ATTACH_SAYS) for line in said):
            raise GuestUnavailable(
                f"container {self.name} is not to be looked into: {program.last_line(outcome)}",
                hint=f"Start it: lxc-start -P {self.lxcpath} -n {self.name}; or ask as root.",
            )
        return outcome


def _included(path: str) -> str:
    """The text of an included file, or of every .conf in an included directory (lxc.container.conf(5))."""
    files = sorted(Path(path).glob("*.conf")) if os.path.isdir(path) else [Path(path)]
    texts = []
    for file in files:
        with suppress(DrawwellError):
            texts.append(edited.read(str(file)))
    return "\n".join(texts)


def _rule(device: str) -> str:
    """The device as the cgroup names it: every number of a stick, that one number of anything else."""
    try:
        node = os.stat(device) if device else None
    except OSError:
        node = None
    if node is None or not stat.S_ISCHR(node.st_mode) or os.major(node.st_rdev) == ACM_MAJOR:
        return ACM
    return f"c {os.major(node.st_rdev)}:{os.minor(node.st_rdev)}"
