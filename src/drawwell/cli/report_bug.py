"""``drawwell report-bug``: collect facts without secrets for a report."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from drawwell.cli.output import Output
from drawwell.errors import ConfigError, DrawwellError

UNITS = "drawwell*"
JOURNAL_LINES = 200
PROGRAM_S = 20.0
_UNIT_FACTS = "Id,LoadState,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts,StatusText"
_LIBRARIES = ("cryptography", "h11", "numpy", "numba", "pydivsufsort")


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "report-bug", parents=[common], allow_abbrev=False,
        help="write a file with facts for a bug report",
        description="Write facts for a bug report to one new file with mode 0600: versions, the configuration, states"
        " of units and sources, the last journal lines, the kernel and the devices. The command does not draw bytes"
        " or read keys, and it masks text that looks like a key. Read the file before you send it, because it"
        " contains names of machines and consumers.",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the new file (default: ./drawwell-report-DATE-TIME.txt)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.redact import masked

    path = args.output or time.strftime("drawwell-report-%Y%m%d-%H%M%S.txt")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        for title, gather in _sections(args):
            out.progress(f"{title} …")
            file.write(f"== {title}\n{masked(_gathered(gather)).rstrip()}\n\n")
    out.result({"file": path}, path)
    out.say("read the file before you send it, because it contains names of machines and consumers")
    return 0


def _gathered(gather: Callable[[], str]) -> str:
    """Return a section, or its error, so that the other sections still follow."""
    try:
        return gather() or "nothing"
    except ConfigError as error:
        return "\n".join((str(error), *error.faults))
    except DrawwellError as error:
        return f"{error}; {error.hint}" if error.hint else str(error)
    except Exception as error:  # noqa: BLE001
        return f"unavailable: {type(error).__name__}: {error}"


def _sections(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "versions", _versions
    yield "kernel", _kernel
    yield "devices", _devices
    yield "other programs", _others
    yield "configuration", lambda: _configuration(args)
    yield "status", lambda: _status(args)
    yield "doctor", lambda: _doctor(args)
    yield "units", lambda: _output("systemctl", "show", UNITS, "--all", f"--property={_UNIT_FACTS}")
    yield "unit files", lambda: _output("systemctl", "list-unit-files", "--no-pager", UNITS)
    yield (
        "journal",
        lambda: _output(
            "journalctl", "--no-pager", "--output=short-iso", f"--lines={JOURNAL_LINES}", f"--unit={UNITS}"
        ),
    )


def _versions() -> str:
    import platform
    import ssl
    from importlib import import_module

    from drawwell import __version__

    lines = [f"drawwell {__version__} ({os.path.dirname(__file__)})", f"Python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            lines.append(f"{name} {getattr(import_module(name), '__version__', 'of an unknown version')}")
        except ImportError:
            lines.append(f"{name} is not installed")
    return "\n".join([*lines, ssl.OPENSSL_VERSION, platform.platform(), _text("/etc/os-release")])


def _kernel() -> str:
    from drawwell.host.kernel import kernel_facts
    from drawwell.host.virtual import virtual_facts
    from drawwell.reports import as_json

    facts = {"kernel": as_json(kernel_facts()), "machine": as_json(virtual_facts())}
    return json.dumps(facts, indent=1)


def _devices() -> str:
    from drawwell.drivers.discovery import discover
    from drawwell.host.holders import holders
    from drawwell.reports import as_json

    found = [
        as_json(device) | {"held_by": [as_json(each) for each in holders(device.path)] if device.path else []}
        for device in discover()
    ]
    hwrng = _text("/sys/class/misc/hw_random/rng_available"), _text("/sys/class/misc/hw_random/rng_current")
    return (
        f"{json.dumps(found, indent=1)}\nhwrng: available {hwrng[0] or 'none'}; current {hwrng[1] or 'none'}"
    )


def _others() -> str:
    from drawwell.cli.doctor.other_programs import rivals

    return "\n".join(each.text for each in rivals()) or "none"


def _configuration(args: argparse.Namespace) -> str:
    from drawwell.config.load import load
    from drawwell.config.render import shown

    return shown(load(args.config), origin=True)


def _status(args: argparse.Namespace) -> str:
    from drawwell.cli.client import call

    return json.dumps(call(args, "status", {}), indent=1)


def _doctor(args: argparse.Namespace) -> str:
    from drawwell.cli.doctor.checks import examine

    return "\n".join(f"{each.level}: {each.line}" for each in examine(args))


def _output(*argv: str) -> str:
    """Return the output of a program, or "" if it is not installed."""
    from drawwell.guests import program

    done = program.run(list(argv), timeout_s=PROGRAM_S)
    return f"{done.output.decode('utf-8', 'replace')}{done.errors}"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
