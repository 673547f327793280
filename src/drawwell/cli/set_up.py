"""Writes configuration files to conf.d, and controls systemd units."""

import argparse
import os
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drawwell.config.model import Config

MARK: Final = "# Written by 'drawwell {}"
"""The start of the first line of each written file; other files are not changed."""
_SYSTEMD: Final = "/run/systemd/system"
_UNIT_S: Final = 120.0


def parts_directory(args: argparse.Namespace) -> str | None:
    """Return the path of conf.d, or None if this user cannot write to it.

    `args.config` is the value of ``-c`` or $DRAWWELL_CONFIG: one file without a conf.d.
    """
    from drawwell.config.load import DIRECTORY

    if args.config or os.geteuid() != 0:
        return None
    return os.path.join(DIRECTORY, "conf.d")


def part_path(directory: str, name: str) -> str:
    """Return the path of a file in conf.d."""
    return os.path.join(directory, f"{name}.toml")


def write_part(directory: str, name: str, text: str) -> "Config":
    """Write a file to conf.d and return the new configuration.

    If the new configuration has faults, the change is undone.

    Raises:
        ConfigError: the new configuration has faults.
        StateUnavailable: the file cannot be written.
        UsageError: the file exists and was not written by drawwell.
    """
    from drawwell.config.load import load
    from drawwell.errors import ConfigError, UsageError
    from drawwell.ownership import make_directory
    from drawwell.state.files import replace_file

    make_directory(directory, 0o755)
    path = part_path(directory, name)
    before = _read(path)
    if before is not None and not before.startswith(MARK.format("").encode()):
        raise UsageError(f"{path} already exists and is not from drawwell", hint="Move the file first.")
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
    """Remove a file in conf.d that `verb` wrote; return whether it existed."""
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
    """Return whether systemd manages this machine and has the unit."""
    return os.path.isdir(_SYSTEMD) and _systemctl("cat", unit)


def enable_and_restart(*units: str) -> None:
    """Enable and restart units.

    Raises:
        LinkUnavailable: a unit does not start.
    """
    from drawwell.errors import LinkUnavailable

    if not (_systemctl("enable", *units) and _systemctl("restart", *units)):
        raise LinkUnavailable(
            f"systemd could not start {' and '.join(units)}",
            hint=f"Run 'systemctl status {' '.join(units)}' to find the reason.",
        )


def stop(*units: str) -> None:
    """Stop units."""
    _systemctl("stop", *units)


def is_running(unit: str) -> bool:
    """Return whether systemd has started a unit."""
    return _systemctl("is-active", unit)


def start_again(unit: str) -> None:
    """Start a unit without waiting for it."""
    _systemctl("--no-block", "start", unit)


def reload_units() -> None:
    """Make systemd reload its unit files."""
    _systemctl("daemon-reload")


def restart_if_running(*units: str) -> None:
    """Restart running units without waiting for them."""
    _systemctl("--no-block", "try-restart", *units)


def _systemctl(*arguments: str) -> bool:
    try:
        done = subprocess.run(
            ["systemctl", "--quiet", *arguments], capture_output=True, check=False, timeout=_UNIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
