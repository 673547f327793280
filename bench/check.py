"""Compare MB/s of ``drawwell check`` and rngtest on the same bytes.

The bytes are created once. The runs alternate, read from the page cache and test every block.
``drawwell check`` runs with the extra [assess], if installed, and without it. The ratios
compare medians of this run on this machine; no other comparison is meaningful.
"""

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

CHECK = [sys.executable, "-m", "drawwell", "check"]
WITHOUT_EXTRA = [
    sys.executable,
    "-c",
    "import sys; sys.modules['numba'] = None; from drawwell.cli import main; sys.exit(main(['check']))",
]

Contender = Callable[[], str]
"""Does the whole work once; returns results that must be equal for all."""


def race(contenders: Mapping[str, Contender], runs: int) -> dict[str, list[float]]:
    """Run all contenders in turn, `runs` times; return the seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        found = {}
        for name, contender in contenders.items():
            start = time.perf_counter()
            found[name] = contender()
            seconds[name].append(time.perf_counter() - start)
        if len(set(found.values())) != 1:
            raise SystemExit(f"the contenders disagree: {found}")
    return seconds


def program(argv: list[str], path: str) -> Contender:
    """Return a program that tests the file on its standard input."""

    def run() -> str:
        with open(path, "rb") as data:
            done = subprocess.run(argv, stdin=data, capture_output=True, text=True, check=False)
        return "\n".join(line for line in done.stderr.splitlines() if "FIPS 140-2" in line)

    return run


def write_noise(path: str, megabytes: int) -> None:
    with open(path, "wb") as file:
        file.writelines(os.urandom(1_000_000) for _ in range(megabytes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "noise")
        write_noise(path, args.megabytes)
        contenders = {"drawwell check": program(CHECK, path), "without extra": program(WITHOUT_EXTRA, path)}
        if shutil.which("rngtest"):
            contenders["rngtest"] = program(["rngtest"], path)
        seconds = race(contenders, args.runs)
    for name, times in seconds.items():
        middle = statistics.median(times)
        spread = ", ".join(f"{each:.2f}" for each in sorted(times))
        print(f"{name:15} {args.megabytes / middle:6.1f} MB/s  (seconds: {spread})")
    if importlib.util.find_spec("numba") is None:
        print("the extra [assess] is not installed: both runs of drawwell check are plain Python")
    if "rngtest" in seconds:
        theirs = statistics.median(seconds.pop("rngtest"))
        for name, times in seconds.items():
            print(f"ratio: {name} is {theirs / statistics.median(times):.2f} times as fast as rngtest")
    else:
        print("rngtest is not installed (Debian: rng-tools-debian): nothing to compare with")


if __name__ == "__main__":
    main()
