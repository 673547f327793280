"""Fuzz the parsers of external input with atheris.

Each parser gets a million inputs, or as many as the time limit allows. atheris is not in a
lock file, because it builds only with clang's libFuzzer. Install it in a venv:
    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris -e .
    /tmp/fuzz/bin/python bench/fuzz.py
An input that is neither parsed nor refused with the parser's error ends the run, and is kept.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
TARGETS: Final = HERE / "rig" / "fuzz_targets.py"
KEYS: Final = HERE / "rig" / "fuzz_keys.py"
RUNS: Final = 1_000_000
MAX_INPUT_BYTES: Final = 4096
KEPT, KEPT_BYTES = 64, 512
"""Most inputs for each target in bench/corpus, and their largest size."""
MAX_SECONDS_EACH_INPUT: Final = 5
MAX_RSS_MIB: Final = 1024


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("target", nargs="*", help="only these parsers")
    options.add_argument("--quick", action="store_true", help="a few inputs each: does it work")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    options.add_argument("--seconds", type=int, default=60, help="time limit of each (default 60)")
    options.add_argument(
        "--grow", action="store_true", help="add inputs that reached a new part to bench/corpus"
    )
    options.add_argument("--keep", type=Path, default=Path(), help="folder for inputs that broke a parser")
    args = options.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("note   atheris is not installed: nothing was fuzzed (see the head of bench/fuzz.py)")
        return 0
    rows = [fuzz(name, args) for name in args.target or names()]
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows)
    return 1 if any(row["broken"] for row in rows) else 0


def grow(name: str, corpus: Path) -> None:
    """Keep the shortest inputs of a corpus without losing coverage."""
    with tempfile.TemporaryDirectory() as least:
        subprocess.run(
            [sys.executable, TARGETS, name, least, str(corpus), "-merge=1"], capture_output=True, check=True
        )
        inputs = sorted(
            (path.read_bytes() for path in Path(least).iterdir()), key=lambda data: (len(data), data)
        )
    (HERE / "corpus").mkdir(exist_ok=True)
    few = [data.hex() for data in inputs if 0 < len(data) <= KEPT_BYTES][:KEPT]
    (HERE / "corpus" / f"{name}.txt").write_text("".join(f"{line}\n" for line in few))


def names() -> list[str]:
    """Return every target: functions of the rig named ``fuzz_…``."""
    return re.findall(r"^def fuzz_(\w+)\(", TARGETS.read_text() + KEYS.read_text(), re.MULTILINE)


def fuzz(name: str, args: argparse.Namespace) -> dict[str, object]:
    """Fuzz one parser in a separate process."""
    runs, seconds = (2000, 10) if args.quick else (RUNS, args.seconds)
    with tempfile.TemporaryDirectory() as corpus:
        begun = time.monotonic()
        done = subprocess.run(
            [
                sys.executable, TARGETS, name, corpus,
                f"-runs={runs}", f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}",
                f"-timeout={MAX_SECONDS_EACH_INPUT}", f"-rss_limit_mb={MAX_RSS_MIB}",
                f"-artifact_prefix={args.keep.resolve() / name}-", "-print_final_stats=1", "-verbosity=1",
            ],
            capture_output=True, text=True, errors="replace", check=False, env=os.environ | {"PYTHONHASHSEED": "0"},
        )  # fmt: skip
        took_s = time.monotonic() - begun
        if args.grow:
            grow(name, Path(corpus))
        kept = len(os.listdir(corpus))
    output = done.stdout + done.stderr
    executed = re.search(r"number_of_executed_units: (\d+)", output)
    features = re.findall(r" ft: (\d+)", output)
    broken = output[-3000:] if done.returncode else ""
    return {
        "target": name,
        "inputs": int(executed[1]) if executed else 0,
        "seconds": round(took_s, 1),
        "features": int(features[-1]) if features else 0,
        "corpus": kept,
        "broken": broken,
    }


def show(rows: list[dict[str, object]]) -> None:
    print(f"{'parser':<18} {'inputs':>9} {'seconds':>8} {'features':>9} {'corpus':>7}  outcome")
    for row in rows:
        outcome = "BROKEN" if row["broken"] else "every input parsed or refused as promised"
        print(
            f"{row['target']:<18} {row['inputs']:>9} {row['seconds']:>8} {row['features']:>9} "
            f"{row['corpus']:>7}  {outcome}"
        )
    for row in rows:
        if row["broken"]:
            print(f"\n{row['target']}:\n{row['broken']}")


if __name__ == "__main__":
    sys.exit(main())
