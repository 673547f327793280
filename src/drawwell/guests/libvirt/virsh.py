"""libvirt through virsh(1), for a machine without python3-libvirt: strict parsing, refusals recognised by message.

A domain is named by its UUID, because virsh reads a name of digits as a number. Secrets go to virsh's standard input,
where it reads commands as its own shell does: every user can see a command line.
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
     "Let libvirt's QEMU user reach it, and add the rule of 'drawwell guest plan' for AppArmor or SELinux."),
    ("Failed to connect to '[^']*\\.sock': (?:No such file|Connection refused)", GuestUnavailable,
     "The broker does not serve this guest: is it running, and was the guest added?"),
    ("access denied|authentication (?:failed|unavailable)|Permission denied'?$|polkit|system bus",
     PermissionRefused, BE_ROOT),
    ("failed to connect to the hypervisor", GuestUnavailable, START),
    ("is in use by driver QEMU", GuestUnavailable,
     "The stick is another domain's: 'drawwell guest apply libvirt NAME --via usb --remove' takes it from there."),
    ("Did not find USB device|no such USB device|/sys/bus/usb", GuestUnavailable,
     "Plug the stick in; 'lsusb -d 1d50:6086' shows it."),
    ("Multiple USB devices", GuestUnavailable, "Say which stick with --device, by its port, such as 1-1.2."),
    ("USB is disabled for this domain|no USB controller|no free USB", GuestUnavailable, ADD_USB),
    ("No more available PCI", GuestUnavailable,
     "It has no free port to plug into: stop and start it, or add <controller type='pci' model='pcie-root-port'/>."),
    ("Guest agent command failed|has been disabled", GuestUnavailable, ALLOW_EXEC),
    ("agent is not (?:connected|available|responding)|not configured|agent not", GuestUnavailable, ADD_AGENT),
    ("domain is not running", GuestUnavailable, "Start it: 'virsh start NAME'."),
)  # fmt: skip


class Virsh:
    """A `LibvirtConnection`. `virsh` is the program; tests name another."""

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
        everyone = {**self._listed("--all"), **live}
        return [
            Known(uuid, name, live=uuid in live, persistent=uuid in kept) for uuid, name in everyone.items()
        ]

    def _listed(self, *which: str) -> dict[str, str]:
        """The names of domains by their UUIDs."""
        lines = [line.strip() for line in self._run("list", *which, "--uuid", "--name").splitlines()]
        found = [re.fullmatch(rf"({_UUID})\s+(.+)", line) for line in lines if line]
        if not all(found):
            raise GuestUnavailable(
                "libvirt's list of domains cannot be read", hint="Look at 'virsh list --all' yourself."
            )
        return {match[1]: match[2] for match in found if match}

    def agent_command(self, uuid: str, order: str, within_s: float) -> str:
        """See `LibvirtConnection`."""
        quoted = order.replace("'", "\\u0027")  # in a string of JSON, the only place where it can stand
        line = f"qemu-agent-command --domain {uuid} --timeout {max(1, round(within_s))} '{quoted}'\n"
        done = self._call([], line, within_s + ANSWER_S)
        answers = [each for each in done.output.splitlines() if each.startswith(b"{")]
        if len(answers) != 1:
            raise recognised(done.errors, self.uri)
        return answers[0].decode(errors="replace")

    def _run(self, *words: str, text: str = "") -> str:
        """Run one command, with `text` as its standard input; return its output."""
        done = self._call([*words], text, ANSWER_S)
        if done.status:
            raise recognised(done.errors, self.uri)
        return done.output.decode(errors="replace")

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
    """virsh is not installed."""


def recognised(said: str, uri: str) -> DrawwellError:
    """Return the error for what virsh printed on standard error."""
    lines = [line.removeprefix("error: ").strip() for line in said.splitlines() if line.strip()]
    words = "; ".join(lines) or "no reason given"
    for pattern, kind, hint in _REFUSALS:
        if any(re.search(pattern, line) for line in lines):
            return refusal(kind, uri, words, hint)
    return refusal(GuestUnavailable, uri, words, JOURNAL)
