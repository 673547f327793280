"""The ID of the kernel's current boot."""

from typing import Final

_PATH: Final = "/proc/sys/kernel/random/boot_id"


def boot_id(path: str = _PATH) -> str:
    """Return an ID that changes at boot and is the same in all containers.

    It is "" if the kernel's file cannot be read. Source: random(4).
    """
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""
