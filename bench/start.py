"""Measure the time from the start of a process to the first drawn byte.

The programs are ``drawwell draw 32`` with a running broker, ``drawwell --version``, and
``drawwell broker`` from its start to its first grant, including start-up health tests on a
fast source. openssl rand 32 and an empty Python program are for comparison. Modules are
compiled beforehand, as in a package. The output also lists imported modules and their import
time.
"""

import collections
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rig.load import draw_of
from rig.processes import CLIENT_CORE, START_WITHIN_S, cpu_s, free_port, running, stay_on
from rig.report import Report, Samples, arguments, progress
from rig.site import Site
from rig.unix import exchange, greeted

from drawwell.entropy.blocks import DrawClass

COMMAND: Final = "one command"
BROKER: Final = "a broker, to its first grant"
DRAWWELL: Final = (sys.executable, "-m", "drawwell")
PROGRAM: Final = (sys.executable, os.path.join(os.path.dirname(sys.executable), "drawwell"))
"""The installed command, without the imports of ``-m``."""
NOTHING: Final = "python -c pass"
IMPORT_LINE: Final = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")


def command(argv: Sequence[str]) -> Samples:
    """Run a program to its end."""
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _pid, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - begun
    process.returncode = status
    if status:
        raise SystemExit(f"{argv} failed")
    return {"ms": 1e3 * took, "CPU ms": 1e3 * (used.ru_utime + used.ru_stime)}


def broker(site: Site) -> Samples:
    """Start a broker, and draw until it grants."""
    argv = [*DRAWWELL, "broker", "-q", "-c", site.configuration(free_port())]
    path = f"{site.folder}/run/draw.sock"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    begun = time.perf_counter()
    with running(argv, stderr=None) as process:
        while not _granted(path):
            if time.perf_counter() - begun > START_WITHIN_S:
                raise SystemExit("the broker grants nothing")
            time.sleep(0.002)
        return {"ms": 1e3 * (time.perf_counter() - begun), "CPU ms": 1e3 * cpu_s(process.pid)}


def _granted(path: str) -> bool:
    """Try once to connect and draw 32 bytes."""
    draw = draw_of(32, DrawClass.FULL)
    with contextlib.suppress(OSError), greeted(path) as link:
        return exchange(link, draw.request).startswith(draw.answer_starts)
    return False


def imports(argv: Sequence[str]) -> dict[str, float]:
    """Return the import time in ms, by package; for drawwell by module."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *argv[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    spent: collections.Counter[str] = collections.Counter()
    for microseconds, module in IMPORT_LINE.findall(done.stderr):
        spent[module if module.startswith("drawwell") else module.partition(".")[0]] += int(microseconds)
    return {module: microseconds / 1000 for module, microseconds in spent.most_common(12)}


def main() -> None:
    args = arguments(__doc__ or "")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds = 2 if args.quick else 10
    report = Report("from the start of a process to the first byte")
    stay_on(CLIENT_CORE)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.broker():
            site.wait_until_full()
            draw = (*PROGRAM, "draw", "32", "--raw", "-q", "-c", f"{folder}/drawwell.toml")
            floor = {
                "drawwell draw 32": draw,
                "drawwell --version": (*PROGRAM, "--version"),
                NOTHING: (sys.executable, "-c", "pass"),
            }
            if shutil.which("openssl"):
                floor["openssl rand 32"] = ("openssl", "rand", "32")
            for number in range(rounds):
                progress(f"round {number + 1} of {rounds}")
                for name, argv in floor.items():
                    report.add(COMMAND, name, command(argv))
            for module, milliseconds in imports(draw).items():
                report.add("imported by drawwell draw", module, {"ms": milliseconds})
        for number in range(rounds):
            progress(f"broker, round {number + 1} of {rounds}")
            report.add(BROKER, "drawwell broker", broker(site))
    if not shutil.which("openssl"):
        report.missing("openssl", "openssl")
    report.ratio(COMMAND, "drawwell draw 32", "openssl rand 32", "ms")
    for ours in ("drawwell draw 32", "drawwell --version"):
        report.ratio(COMMAND, ours, NOTHING, "CPU ms")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
