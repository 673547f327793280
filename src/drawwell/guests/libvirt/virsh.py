"""libvirt through virsh(1), for use without python3-libvirt.

Domains are identified by UUID, because virsh reads a numeric name as an ID. Secrets are sent
as commands on virsh's standard input, because every user can see a command line.
"""

import re
from typing import Final

from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused
from drawwell.guests import program
from drawwell.guests.libvirt.connection import (
    ADD_AGENT,
    ADD_USB,
    ALLOW_EXEC,
    ANSWER_S,
    BE_ROOT,
    JOURNAL,
    START,
    Known,
    refusal,
)
from drawwell.guests.model import GuestCommandResult

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_REFUSALS: Final[tuple[tuple[str, type[DrawwellError], str], ...]] = (
    ("Failed to connect to '[^']*\\.sock': Permission denied", GuestUnavailable,
     "Let libvirt's QEMU user reach the socket; 'drawwell guest plan' shows the AppArmor or SELinux rule."),
    ("Failed to connect to '[^']*\\.sock': (?:No such file|Connection refused)", GuestUnavailable,
     "The broker does not serve this guest. Check that the broker runs and that the guest was added."),
    ("access denied|authentication (?:failed|unavailable)|Permission denied'?$|polkit|system bus",
     PermissionRefused, BE_ROOT),
    ("failed to connect to the hypervisor", GuestUnavailable, START),
    ("is in use by driver QEMU", GuestUnavailable,
     "Another domain has the stick. Release it with 'drawwell guest apply libvirt NAME --via usb --remove'."),
    ("Did not find USB device|no such USB device|/sys/bus/usb", GuestUnavailable,
     "Plug the stick in; 'lsusb -d 1d50:6086' shows it."),
    ("Multiple USB devices", GuestUnavailable, "Set the stick's port with --device, such as 1-1.2."),
    ("USB is disabled for this domain|no USB controller|no free USB", GuestUnavailable, ADD_USB),
    ("No more available PCI", GuestUnavailable,
     "The domain has no free port. Stop and start it, or add <controller type='pci' model='pcie-root-port'/>."),
    ("Guest agent command failed|has been disabled", GuestUnavailable, ALLOW_EXEC),
    ("agent is not (?:connected|available|responding)|not configured|agent not", GuestUnavailable, ADD_AGENT),
    ("domain is not running", GuestUnavailable, "Start it with 'virsh start NAME'."),
)  # fmt: skip


class Virsh:
    """A `LibvirtConnection`; tests replace the program `virsh`."""

    def __init__(self, uri: str, virsh: str = "virsh") -> None:
        self.uri = uri
        self._program = virsh

    def capabilities(self) -> str:
        """See `LibvirtConnection`."""
        return self._run("capabilities")

    def describe(self, uuid: str, *, kept: bool = False, security_info: bool = False) -> str:
        """See `LibvirtConnection`."""
        which = [*(["--inactive"] if kept else []), *(["--security-info"] if security_info else [])]
        return self._run("dumpxml", "--domain", uuid, *which)

    def define(self, xml: str) -> None:
        """See `LibvirtConnection`."""
        self._run("define", "/dev/stdin", text=xml)

    def attach(self, uuid: str, device: str) -> None:
        """See `LibvirtConnection`."""
        self._run("attach-device", "--domain", uuid, "/dev/stdin", "--live", text=device)

    def detach(self, uuid: str, device: str) -> None:
        """See `LibvirtConnection`."""
        self._run("detach-device", "--domain", uuid, "/dev/stdin", "--live", text=device)

    def domains(self) -> list[Known]:
        """See `LibvirtConnection`."""
        live, kept = self._listed(), self._listed("--all", "--persistent")
        every = {**self._listed("--all"), **live}
        return [Known(uuid, name, live=uuid in live, persistent=uuid in kept) for uuid, name in every.items()]

    def _listed(self, *which: str) -> dict[str, str]:
        """Return the names of domains by UUID."""
        lines = [line.strip() for line in self._run("list", *which, "--uuid", "--name").splitlines()]
        found = [re.fullmatch(rf"({_UUID})\s+(.+)", line) for line in lines if line]
        if not all(found):
            raise GuestUnavailable(
                "cannot parse libvirt's list of domains", hint="Check the output of 'virsh list --all'."
            )
        return {match[1]: match[2] for match in found if match}

    def agent_command(self, uuid: str, order: str, within_s: float) -> str:
        """See `LibvirtConnection`."""
        quoted = order.replace("'", "\\u0027")  # an apostrophe occurs only in JSON strings
        line = f"qemu-agent-command --domain {uuid} --timeout {max(1, round(within_s))} '{quoted}'\n"
        done = self._call([], line, within_s + ANSWER_S)
        answers = [each for each in done.output.splitlines() if each.startswith(b"{")]
        if len(answers) != 1:
            raise recognised(done.errors, self.uri)
        return answers[0].decode(errors="replace")

    def _run(self, *arguments: str, text: str = "") -> str:
        """Run a command with `text` on standard input; return its output."""
        done = self._call([*arguments], text, ANSWER_S)
        if done.status:
            raise recognised(done.errors, self.uri)
        return done.output.decode(errors="replace")

    def _call(self, arguments: list[str], text: str, within_s: float) -> GuestCommandResult:
        argv = [self._program, "-q", "-c", self.uri, *arguments]
        done = program.run(
            argv,
            stdin=text.encode(),
            timeout_s=within_s,
            more_env={"LC_ALL": "C", "LANGUAGE": "C", "TERM": "dumb"},
        )
        if done.status == program.MISSING:
            raise NotInstalled(
                "virsh is not installed", hint="Install libvirt-clients (Debian) or libvirt-client (Fedora)."
            )
        return done


class NotInstalled(GuestUnavailable):
    """virsh is not installed."""


def recognised(said: str, uri: str) -> DrawwellError:
    """Return the error for a message from virsh on standard error."""
    lines = [line.removeprefix("error: ").strip() for line in said.splitlines() if line.strip()]
    reason = "; ".join(lines) or "no reason given"
    for pattern, kind, hint in _REFUSALS:
        if any(re.search(pattern, line) for line in lines):
            return refusal(kind, uri, reason, hint)
    return refusal(GuestUnavailable, uri, reason, JOURNAL)
