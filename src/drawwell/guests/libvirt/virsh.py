"""libvirt by its own program: virsh (virsh(1)), with strict reading of what it says and names for its refusals.

A domain is named by its UUID: virsh takes a name of digits for a number of something else. What is secret goes to
virsh's standard input, where it reads commands as in a shell of its own: a command line is for every user to see.
"""

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Final

from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused
from drawwell.guests import program
from drawwell.guests.model import GuestCommandResult
from drawwell.guests.qemu.agent import returned

SYSTEM: Final = "qemu:///system"
ANSWER_S: Final = 60.0
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_START: Final = "Start it: 'systemctl start libvirtd' (or virtqemud), and look at its journal."
_MAX_CHARS: Final = 300
_REFUSALS: Final[tuple[tuple[str, type[DrawwellError], str], ...]] = (
    ("Failed to connect to '[^']*\\.sock': Permission denied", GuestUnavailable,
     "Let libvirt's QEMU user reach it, and add the rule of 'drawwell guest plan' for AppArmor or SELinux."),
    ("Failed to connect to '[^']*\\.sock': (?:No such file|Connection refused)", GuestUnavailable,
     "The broker does not serve this guest: is it running, and was the guest added?"),
    ("access denied|authentication (?:failed|unavailable)|Permission denied'?$|polkit|system bus", PermissionRefused,
     "Ask as root, or join the group libvirt."),
    ("failed to connect to the hypervisor", GuestUnavailable, _START),
    ("is in use by driver QEMU", GuestUnavailable,
     "The stick is another domain's: 'drawwell guest apply libvirt NAME --via usb --remove' takes it from there."),
    ("Did not find USB device|no such USB device|/sys/bus/usb", GuestUnavailable,
     "Plug the stick in; 'lsusb -d 1d50:6086' shows it."),
    ("Multiple USB devices", GuestUnavailable, "Say which stick with --device, by its port, such as 1-1.2."),
    ("USB is disabled for this domain|no USB controller|no free USB", GuestUnavailable,
     "Give the domain a USB controller: <controller type='usb' model='qemu-xhci'/>."),
    ("No more available PCI", GuestUnavailable,
     "It has no free port to plug into: stop and start it, or add <controller type='pci' model='pcie-root-port'/>."),
    ("Guest agent command failed|has been disabled", GuestUnavailable,
     "Is the program there, and are guest-exec and guest-exec-status allowed in its /etc/qemu/qemu-ga.conf?"),
    ("agent is not (?:connected|available|responding)|not configured|agent not", GuestUnavailable,
     "Install qemu-guest-agent in the guest and start it."),
    ("domain is not running", GuestUnavailable, "Start it: 'virsh start NAME'."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """A domain that libvirt knows. `live`: it has a QEMU now; `persistent`: it is there after that ends, too."""

    uuid: str
    name: str
    live: bool
    persistent: bool


class Virsh:
    """Calls virsh.

    Args:
        uri: Which libvirt; "" is $LIBVIRT_DEFAULT_URI, else the system's own.
        virsh: The program; tests name another.
    """

    def __init__(self, uri: str = "", virsh: str = "virsh") -> None:
        self.uri = uri or os.environ.get("LIBVIRT_DEFAULT_URI", "") or SYSTEM
        self._program = virsh

    def run(self, *words: str, text: str = "", within_s: float = ANSWER_S) -> str:
        """Run one command, with `text` as its standard input; return what it prints.

        Raises:
            GuestUnavailable: virsh is not installed, libvirt does not answer, or it refuses.
            PermissionRefused: not for this user.
        """
        done = self._call([*words], text, within_s)
        if done.status:
            raise refusal(done.errors, self.uri)
        return done.output.decode(errors="replace")

    def domains(self) -> list[Known]:
        """Return every domain."""
        live, kept = self._listed(), self._listed("--all", "--persistent")
        everyone = {**self._listed("--all"), **live}
        return [
            Known(uuid, name, live=uuid in live, persistent=uuid in kept) for uuid, name in everyone.items()
        ]

    def _listed(self, *which: str) -> dict[str, str]:
        """The names of domains by their UUIDs."""
        lines = [line.strip() for line in self.run("list", *which, "--uuid", "--name").splitlines()]
        found = [re.fullmatch(rf"({_UUID})\s+(.+)", line) for line in lines if line]
        if not all(found):
            raise GuestUnavailable(
                "libvirt's list of domains cannot be read", hint="Look at 'virsh list --all' yourself."
            )
        return {match[1]: match[2] for match in found if match}

    def ask_agent(self, uuid: str, command: str, arguments: dict[str, Any], within_s: float) -> Any:
        """Ask a domain's guest agent; return what it returns.

        Raises:
            GuestUnavailable: it does not answer, or refuses.
            PermissionRefused: not for this user.
        """
        order = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        quoted = order.replace("'", "\\u0027")  # in a string of JSON, the only place where it can stand
        line = f"qemu-agent-command --domain {uuid} --timeout {max(1, round(within_s))} '{quoted}'\n"
        done = self._call([], line, within_s + ANSWER_S)
        answers = [each for each in done.output.splitlines() if each.startswith(b"{")]
        if len(answers) != 1:
            raise refusal(done.errors, self.uri)
        try:
            answer = json.loads(answers[0])
        except (ValueError, RecursionError):
            answer = None
        return returned(command, answer if isinstance(answer, dict) else {})

    def _call(self, words: list[str], text: str, within_s: float) -> GuestCommandResult:
        argv = [self._program, "-q", "-c", self.uri, *words]
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
    """There is no virsh here."""


def refusal(said: str, uri: str) -> DrawwellError:
    """Return the error for what virsh said on standard error."""
    lines = [line.removeprefix("error: ").strip() for line in said.splitlines() if line.strip()]
    words = "; ".join(lines) or "it says nothing"
    words = "".join(each if each.isprintable() else "?" for each in words)[:_MAX_CHARS]
    for pattern, kind, hint in _REFUSALS:
        if any(re.search(pattern, line) for line in lines):
            return kind(f"libvirt at {uri}: {words}", hint=hint)
    return GuestUnavailable(f"libvirt at {uri}: {words}", hint="See its journal: 'journalctl -u libvirtd'.")
