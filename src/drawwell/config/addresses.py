"""Addresses of brokers that are reached over SSH."""

import re
from dataclasses import dataclass
from typing import Final

_SSH: Final = re.compile(
    r"(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9][A-Za-z0-9._-]*))(?::(\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class SshAddress:
    """A host for ssh(1). ssh's configuration applies for user "" and port 0."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        """Format the address as in the configuration."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            "ssh://" + (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")
        )


def parse_ssh_address(text: str) -> SshAddress:
    """Parse ``[user@]host[:port]``; no part can act as an option of ssh(1).

    Raises:
        ValueError: the text does not have this form.
    """
    match = _SSH.fullmatch(text)
    if not match or not 1 <= int(match[4] or 1) <= 65535:
        raise ValueError(f"{text!r} is not [user@]host[:port]")
    return SshAddress(match[2] or match[3], match[1] or "", int(match[4] or 0))
