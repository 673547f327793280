"""``drawwell source units``: manage units that udev does not start."""

import argparse
import hashlib
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output
from drawwell.config.drivers import ONERNG

if TYPE_CHECKING:
    from drawwell.config.broker_side import SourceSection
    from drawwell.config.model import Config

UNIT: Final = "drawwell-named@{}.service"
_TEMPLATE: Final = "/usr/lib/systemd/system/drawwell-named@.service"
_GENERATED: Final = "/run/systemd/generator"
_DROP_IN: Final = "50-source.conf"
_RUNNING: Final = "--state=active,activating,reloading"
_DEV: Final = "/dev"
_BY_UDEV: Final = "/dev/drawwell"
"""The directory in which udev links each device that has its own unit."""
NOT_OURS: Final = 1
"""The exit code that makes systemd skip a unit (systemd.service(5), ExecCondition=)."""


def add_verb(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb to ``drawwell source``."""
    parser = verbs.add_parser(
        "units", parents=[common], allow_abbrev=False,
        help="list the systemd units of configured sources; only the package's units need the options",
        epilog="Sources that udev starts when they are plugged in do not have such a unit.",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--generate", metavar="DIR", help="write the units to DIR as a systemd generator")
    what.add_argument("--apply", action="store_true", help="start and stop units to match the configuration")
    what.add_argument("--admit", metavar="NAME", help="give the sources' user access to the device")
    parser.add_argument("--hup", type=int, metavar="PID", help="afterwards, send SIGHUP to this process")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load

    try:
        config = load(args.config)
        if args.admit is not None:
            return _admit(config, args.admit, out)
        if args.generate:
            _generate(config, Path(args.generate))
            return 0
        if args.apply:
            _apply(config, out)
    finally:
        if args.hup:  # even with faults: the broker reports them and continues
            os.kill(args.hup, signal.SIGHUP)
    if not args.apply:
        units = [UNIT.format(each.name) for each in needing_units(config)]
        out.result({"units": units}, "\n".join(units) or "no source needs its own unit")
    return 0


def needing_units(config: "Config") -> Iterator["SourceSection"]:
    """Yield the configured sources that udev cannot start."""
    yield from (each for each in config.written_sources if each.driver != ONERNG)


def _text(section: "SourceSection") -> str:
    """Return a source's drop-in; any change of a setting changes the text."""
    digest = hashlib.sha256(repr(section).encode()).hexdigest()
    allow = f"DeviceAllow={section.path} rw\n" if section.path.startswith("/dev/") else ""
    return f"# settings {digest}\n[Service]\n{allow}"


def _generate(config: "Config", out: Path) -> None:
    """Write a drop-in for each unit, and add the unit to the broker's Wants=."""
    wants = out / "drawwell-broker.service.wants"
    for section in needing_units(config):
        unit = UNIT.format(section.name)
        (out / f"{unit}.d").mkdir(parents=True, exist_ok=True)
        (out / f"{unit}.d" / _DROP_IN).write_text(_text(section))
        wants.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            (wants / unit).symlink_to(_TEMPLATE)


def _apply(config: "Config", out: Output) -> None:
    wanted = {UNIT.format(each.name): _text(each) for each in needing_units(config)}
    before = _generated()
    listed = _systemctl("list-units", "--plain", "--no-legend", _RUNNING, UNIT.format("*"))
    running = set(re.findall(r"^\S+", listed, re.MULTILINE))
    if before != wanted:
        _systemctl("daemon-reload")
    if gone := sorted(running - wanted.keys()):
        _systemctl("stop", *gone)
        out.say(f"stopped {', '.join(gone)}")
    for unit, text in wanted.items():
        if unit not in running or before.get(unit) != text:
            _systemctl("--no-block", "restart", unit)
            out.say(f"started {unit}")


def _generated() -> dict[str, str]:
    """Return the current drop-ins by unit."""
    files = Path(_GENERATED).glob(f"{UNIT.format('*')}.d/{_DROP_IN}")
    return {file.parent.name.removesuffix(".d"): file.read_text() for file in files}


def _systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", "--quiet", *arguments], capture_output=True, text=True, check=False)
    return done.stdout


def _admit(config: "Config", name: str, out: Output) -> int:
    """Assign a node to the sources' group, as udev does for a known device."""
    from drawwell.roles.make_driver import pick_source

    node = pick_source(config, name).path
    try:
        found = os.stat(node)
    except OSError:  # the source is a program, or the node is missing and the source reports this
        return 0
    if (unit := _of_udev(node)) is not None:
        out.say(f"udev starts {node} as {unit}")
        return NOT_OURS
    uid, gid = config.broker.source_uid, _group()
    if uid is None or gid is None or not stat.S_ISCHR(found.st_mode) or _may_open(node, uid, gid):
        return 0
    if found.st_dev != os.stat(_DEV).st_dev:
        out.say(f"{node} belongs to the host: there, run 'chgrp {gid} {node}; chmod g+rw {node}'")
        return 0
    os.chown(node, -1, gid)
    os.chmod(node, stat.S_IMODE(found.st_mode) | (found.st_mode & stat.S_IRWXU & ~stat.S_IXUSR) >> 3)
    out.say(f"{node} now belongs to group {gid}")
    return 0


def _of_udev(node: str) -> str | None:
    """Return udev's name for the device at this node, or None."""
    links = Path(_BY_UDEV).glob("*")
    return next((each.name for each in links if each.resolve() == Path(node).resolve()), None)


def _group() -> int | None:
    import grp

    from drawwell.config.defaults import SOURCE_USER

    with suppress(KeyError):
        return grp.getgrnam(SOURCE_USER).gr_gid
    return None


def _may_open(node: str, uid: int, gid: int) -> bool:
    from drawwell.ownership import acting_as

    with acting_as(uid, gid):
        return os.access(node, os.R_OK, effective_ids=True)
