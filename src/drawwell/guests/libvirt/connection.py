"""What this room asks of libvirt, whether through its Python bindings or through virsh."""

import json
from dataclasses import dataclass
from typing import Any, Final, Protocol

from drawwell.errors import DrawwellError
from drawwell.guests.qemu.agent import returned

SYSTEM: Final = "qemu:///system"
ANSWER_S: Final = 60.0


BE_ROOT: Final = "Ask as root, or join the group libvirt."
START: Final = "Start it: 'systemctl start libvirtd' (or virtqemud), and look at its journal."
JOURNAL: Final = "See its journal: 'journalctl -u libvirtd'."
ADD_USB: Final = "Give the domain a USB controller: <controller type='usb' model='qemu-xhci'/>."
ADD_AGENT: Final = "Install qemu-guest-agent in the guest and start it."
ALLOW_EXEC: Final = (
    "Is the program there, and are guest-exec and guest-exec-status allowed in its /etc/qemu/qemu-ga.conf?"
)
"""What to do about a refusal, whichever way it is recognised."""
_MAX_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Known:
    """A domain that libvirt knows. `live`: it has a QEMU now; `persistent`: it is there after that ends, too."""

    uuid: str
    name: str
    live: bool
    persistent: bool


class LibvirtConnection(Protocol):
    """A libvirt at `uri`, contacted at the first call. A domain is named by its UUID.

    Every call raises GuestUnavailable if libvirt does not answer or refuses, and PermissionRefused if this user lacks
    the rights.
    """

    uri: str

    def capabilities(self) -> str:
        """Return the XML that describes the host."""

    def domains(self) -> list[Known]:
        """Return every domain."""

    def describe(self, uuid: str, *, kept: bool = False, security_info: bool = False) -> str:
        """Return a domain's XML as it runs or as libvirt keeps it, with or without what only its owner may see."""

    def define(self, xml: str) -> None:
        """Replace what libvirt keeps of a domain."""

    def attach(self, uuid: str, device: str) -> None:
        """Plug a device into a running domain."""

    def detach(self, uuid: str, device: str) -> None:
        """Ask a running domain to release a device."""

    def agent_command(self, uuid: str, order: str, within_s: float) -> str:
        """Send an order to a domain's guest agent; return its answer, both in JSON."""


def ask_agent(
    connection: LibvirtConnection, uuid: str, command: str, arguments: dict[str, Any], within_s: float
) -> Any:
    """Return what a command of a domain's guest agent returns.

    Raises:
        GuestUnavailable: it does not answer, or refuses.
        PermissionRefused: not for this user.
    """
    order = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
    try:
        answer = json.loads(connection.agent_command(uuid, order, within_s))
    except (ValueError, RecursionError):
        answer = None
    return returned(command, answer if isinstance(answer, dict) else {})


def refusal(kind: type[DrawwellError], uri: str, words: str, hint: str) -> DrawwellError:
    """Return the error for a refusal of libvirt's, in words that no terminal obeys."""
    words = "".join(each if each.isprintable() else "?" for each in words)[:_MAX_CHARS]
    return kind(f"libvirt at {uri}: {words}", hint=hint)
