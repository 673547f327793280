"""Parts of the configuration that verbs write, and the units that follow."""

import argparse
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drawwell.config.model import Config

MARK: Final = "# Written by 'drawwell {}"
"""How the first line of each part begins; any other file is left alone."""
_SYSTEMD: Final = "/run/systemd/system"
_UNIT_S: Final = 120.0


def parts_directory(args: argparse.Namespace) -> str | None:
    """Return the directory of conf.d, None where it is not this user's.

    `args.config` is the value of ``-c`` or $DRAWWELL_CONFIG: one file, which has no parts.
    """
    from drawwell.config.load import DIRECTORY

    if args.config or os.geteuid() != 0:
        return None
    return os.path.join(DIRECTORY, "conf.d")


def part_path(directory: str, name: str) -> str:
    """Return the file of a part."""
    return os.path.join(directory, f"{name}.toml")


def write_part(directory: str, name: str, text: str) -> "Config":
    """Write a part and return the configuration with it.

    A part that makes a fault is taken back.

    Raises:
        ConfigError: the configuration has faults with it.
        StateUnavailable: it cannot be written.
        UsageError: a file of that name is there that no verb wrote.
    """
    from drawwell.config.load import load
    from drawwell.errors import ConfigError, UsageError
    from drawwell.ownership import make_directory
    from drawwell.state.files import replace_file

    make_directory(directory, 0o755)
    path = part_path(directory, name)
    before = _read(path)
    if before is not None and not before.startswith(MARK.format("").encode()):
        raise UsageError(f"{path} is there, and another hand wrote it", hint="Move it away first.")
    replace_file(path, text.encode(), 0o644)
    try:
        return load()
    except ConfigError:
        if before is None:
            os.unlink(path)
        else:
            replace_file(path, before, 0o644)
        raise


def remove_part(directory: str, name: str, verb: str) -> bool:
    """Remove a part that `verb` wrote; return whether there was one."""
    path = part_path(directory, name)
    if not (_read(path) or b"").startswith(MARK.format(verb).encode()):
        return False
    os.unlink(path)
    return True


def _read(path: str) -> bytes | None:
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return file.read()
    return None


def has_unit(unit: str) -> bool:
    """Return whether systemd runs this machine and has that unit."""
    return os.path.isdir(_SYSTEMD) and _systemctl("cat", unit)


def enable_and_restart(*units: str) -> None:
    """Enable units and start them again, with the configuration as it is now.

    Raises:
        LinkUnavailable: one does not start.
    """
    from drawwell.errors import LinkUnavailable

    if not (_systemctl("enable", *units) and _systemctl("restart", *units)):
        raise LinkUnavailable(
            f"systemd does not start {' and '.join(units)}",
            hint=f"Read the reason: 'systemctl status {' '.join(units)}'.",
        )


def restart_if_running(*units: str) -> None:
    """Have running units start again, without waiting for it."""
    _systemctl("--no-block", "try-restart", *units)


def _systemctl(*arguments: str) -> bool:
    try:
        done = subprocess.run(
            ["systemctl", "--quiet", *arguments], capture_output=True, check=False, timeout=_UNIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
