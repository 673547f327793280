"""Compare the SP 800-90B assessment with ent, rngtest and ea_non_iid.

All programs read the same million bytes. The figures are CPU seconds of one thread; the start
of the interpreter and the loading of compiled loops are listed separately. rngtest and ent do
much less, so the ratio shows the cost of the ten estimates. ``--nist DIR`` assesses NIST's
sample files (the folder ``bin`` of its repository) and compares the results with NIST's
program.
"""

import argparse
import json
import math
import os
import resource
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from drawwell.assess import NonIidResult, assess

VECTORS = Path(__file__).resolve().parent.parent / "tests" / "vectors"
RIVALS = {
    "ea_non_iid": ["ea_non_iid", "-i", "-a"],
    "ent": ["ent"],
    "rngtest": ["sh", "-c", 'exec rngtest < "$0"'],
}
"""Programs whose last argument is the file's name."""


def cpu_of(argv: list[str]) -> float:
    """Return the CPU seconds of a program and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def timed(data: bytes, threads: int) -> tuple[NonIidResult, float, float]:
    """Return the result, the CPU seconds and the wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = assess(data, threads=threads)
    return result, time.process_time() - cpu, time.perf_counter() - wall


def race(name: str, data: bytes, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        Path(path).write_bytes(data)
        rivals = {each: argv for each, argv in RIVALS.items() if shutil.which(each)}
        seconds: dict[str, list[float]] = {each: [] for each in ("drawwell", *rivals)}
        walls = []
        for _ in range(runs):
            result, cpu, _ = timed(data, 1)
            seconds["drawwell"].append(cpu)
            walls.append(timed(data, 2)[2])
            for each, argv in rivals.items():
                seconds[each].append(cpu_of([*argv, path]))
    ours = statistics.median(seconds["drawwell"])
    print(
        f"{name}: {result.min_entropy:.6f} bits per sample; two threads: {statistics.median(walls):.2f} s on the wall"
    )
    for each, times in seconds.items():
        middle = statistics.median(times)
        spread = ", ".join(f"{one:.2f}" for one in sorted(times))
        ratio = "" if each == "drawwell" else f"  = {middle / ours:.3g} of drawwell's"
        print(f"  {each:12} {middle:7.3f} s of CPU  ({spread}){ratio}")
    for each in RIVALS.keys() - rivals.keys():
        print(f"  {each:12} is not installed")


def start_up(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "data")
        Path(path).write_bytes(data)
        script = "import sys; from drawwell.assess import assess; assess(open(sys.argv[1], 'rb').read(), threads=1)"
        whole = cpu_of([sys.executable, "-c", script, path])
    print(f"a fresh process for the first of these: {whole:.2f} s of CPU in all")


def check_nist(folder: Path, recorded: dict[str, Any]) -> bool:
    """Assess NIST's sample files; print the largest difference."""
    good = True
    for name, wanted in recorded.items():
        path = next(iter(folder.rglob(f"{name}.bin")), None)
        if path is None:
            print(f"{name}: not in {folder}")
            continue
        result, cpu, _ = timed(path.read_bytes(), 1)
        pairs = [
            (float(wanted[column.name][each.name][0]), each.min_entropy)
            for column in result.columns
            for each in column.estimates
            if each.min_entropy is not None
        ]
        same = all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in pairs)
        worst = max(abs(a - b) for a, b in pairs)
        good = good and same
        print(
            f"{name}: {len(pairs)} values {'equal' if same else 'DIFFER'}, by {worst:.1e} at most; {cpu:.2f} s of CPU"
        )
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--inputs", nargs="*", default=["rand8", "sym4", "rand1"], help="default: %(default)s"
    )
    parser.add_argument(
        "--nist", type=Path, metavar="DIR", help="check NIST's own sample files in this folder"
    )
    args = parser.parse_args()
    if args.nist is not None:
        recorded = json.loads((VECTORS / "sp80090b_reference.json").read_text())["nist_sample_files"]
        sys.exit(0 if check_nist(args.nist, recorded) else 1)
    make = runpy.run_path(str(VECTORS / "sp80090b_inputs.py"))["samples"]
    inputs = {name: make(name).tobytes() for name in args.inputs}
    for data in inputs.values():
        assess(data)  # compile, or load compiled loops
    for name, data in inputs.items():
        race(name, data, args.runs)
    start_up(next(iter(inputs.values())))
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
