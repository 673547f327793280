"""The interface to libvirt, for its Python bindings and virsh."""

import json
from dataclasses import dataclass
from typing import Any, Final, Protocol

from drawwell.errors import DrawwellError
from drawwell.guests.qemu.agent import returned

SYSTEM: Final = "qemu:///system"
ANSWER_S: Final = 60.0


BE_ROOT: Final = "Run as root, or join the group libvirt."
START: Final = "Start it with 'systemctl start libvirtd' (or virtqemud), and check its journal."
JOURNAL: Final = "Check its journal with 'journalctl -u libvirtd'."
ADD_USB: Final = "Add a USB controller to the domain: <controller type='usb' model='qemu-xhci'/>."
ADD_AGENT: Final = "Install qemu-guest-agent in the guest and start it."
ALLOW_EXEC: Final = (
    "Check that the guest has the program, and that its /etc/qemu/qemu-ga.conf allows guest-exec and"
    " guest-exec-status."
)
"""Hints for refusals, shared by the bindings and virsh."""
_MAX_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Known:
    """A domain in libvirt's list.

    `live`: the domain runs; `persistent`: its definition remains after it stops.
    """

    uuid: str
    name: str
    live: bool
    persistent: bool


class LibvirtConnection(Protocol):
    """A connection to the libvirt at `uri`, opened by the first call.

    Domains are identified by UUID. Every call raises GuestUnavailable if libvirt refuses or
    does not answer, and PermissionRefused if this user lacks the rights.
    """

    uri: str

    def capabilities(self) -> str:
        """Return the XML that describes the host."""

    def domains(self) -> list[Known]:
        """Return every domain."""

    def describe(self, uuid: str, *, kept: bool = False, security_info: bool = False) -> str:
        """Return a domain's XML: of the running domain, or its `kept` definition.

        `security_info` includes passwords, which only the owner can read.
        """

    def define(self, xml: str) -> None:
        """Replace a domain's stored definition."""

    def attach(self, uuid: str, device: str) -> None:
        """Plug a device into a running domain."""

    def detach(self, uuid: str, device: str) -> None:
        """Ask a running domain to release a device."""

    def agent_command(self, uuid: str, order: str, within_s: float) -> str:
        """Send a JSON command to a domain's guest agent; return its JSON reply."""


def ask_agent(
    connection: LibvirtConnection, uuid: str, command: str, arguments: dict[str, Any], within_s: float
) -> Any:
    """Send a command to a domain's guest agent and return the result.

    Raises:
        GuestUnavailable: the agent does not answer or refuses.
        PermissionRefused: this user lacks the rights.
    """
    order = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
    try:
        answer = json.loads(connection.agent_command(uuid, order, within_s))
    except (ValueError, RecursionError):
        answer = None
    return returned(command, answer if isinstance(answer, dict) else {})


def refusal(kind: type[DrawwellError], uri: str, message: str, hint: str) -> DrawwellError:
    """Build the error for a refusal, without control characters."""
    message = "".join(each if each.isprintable() else "?" for each in message)[:_MAX_CHARS]
    return kind(f"libvirt at {uri}: {message}", hint=hint)
