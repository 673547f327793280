"""Where a broker is that is reached by SSH."""

import re
from dataclasses import dataclass
from typing import Final

_SSH: Final = re.compile(
    r"(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9][A-Za-z0-9._-]*))(?::(\d{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class SshAddress:
    """A host as ssh(1) takes it; user "" and port 0 are what its own configuration says."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        """Write it as the configuration takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            "ssh://" + (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")
        )


def parse_ssh_address(text: str) -> SshAddress:
    """Read ``[user@]host[:port]``. Nothing of it can be taken for an option of ssh(1).

    Raises:
        ValueError: something else.
    """
    match = _SSH.fullmatch(text)
    if not match or not 1 <= int(match[4] or 1) <= 65535:
        raise ValueError(f"{text!r} is not [user@]host[:port]")
    return SshAddress(match[2] or match[3], match[1] or "", int(match[4] or 0))
