"""CPU seconds per megabyte of raw noise, from device to full entropy.

The devices are a FIFO, filled from /dev/urandom as fast as it is read, and a simulated OneRNG
on a pseudo-terminal, unlimited and at 57 kB/s like a real one. The peer on the FIFO is rngtest
--pipe of rng-tools-debian: the FIPS 140-2 tests of its rngd. Then each stage runs alone on
slices of 1,024 bytes. The last figure is the efficiency, whose limit is 512/576 = 88.9 %.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from rig.processes import CLIENT_CORE, SERVER_CORE, running, stay_on, wait_for_path
from rig.report import Report, Samples, arguments, progress

from drawwell.broker.supply import Supply
from drawwell.entropy.blocks import FullEntropy, TestedBlock
from drawwell.entropy.conditioning import INPUT_BITS, OUTPUT_BITS, Conditioner
from drawwell.entropy.continuous import (
    AdaptiveProportionTest,
    BitProportionTest,
    BitRepetitionCountTest,
    RepetitionCountTest,
)
from drawwell.entropy.cutoffs import BIT_WINDOW, BYTE_WINDOW
from drawwell.entropy.health import NoiseClaim
from drawwell.entropy.landmarks import DistantRepeatTest
from drawwell.entropy.most_common import MostCommonValue
from drawwell.entropy.repeat import RepeatTest
from drawwell.entropy.reservoir import Reservoir
from drawwell.roles.source import SLICE_BYTES
from drawwell.units import Bits

FIPS_BLOCK_BYTES: Final = 2500
CLAIM: Final = NoiseClaim()
END_TO_END: Final = "from the device to full entropy"
STAGES: Final = "the stages, each alone"
WITHIN_S: Final = 60
COST: Final = "CPU s/MB raw"


@contextlib.contextmanager
def fifo(folder: Path) -> Iterator[str]:
    """Create a FIFO that always has data."""
    path = str(folder / "fifo")
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)  # do not wait for a reader
    try:
        with running(["cat", "/dev/urandom"], core=CLIENT_CORE, stdout=fd):
            yield path
    finally:
        os.close(fd)
        os.unlink(path)


@contextlib.contextmanager
def simulated(folder: Path, rate: int) -> Iterator[str]:
    """Run a simulated OneRNG; `rate` in bytes per second, 0 for no limit."""
    path = folder / f"onerng-{rate}"
    argv = [
        sys.executable,
        "-m",
        "drawwell",
        "source",
        "simulate",
        "-q",
        "--link",
        str(path),
        "--rate",
        str(rate),
    ]
    with running(argv, core=CLIENT_CORE) as process:
        wait_for_path(process, path)
        yield str(path)


def drawwell(kind: str, path: str, raw_bytes: int) -> Samples:
    """Run drawwell's source role in its own process."""
    script = os.path.join(os.path.dirname(__file__), "rig", "source_to_full.py")
    done = subprocess.run(
        [sys.executable, script, kind, path, str(raw_bytes)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=WITHIN_S,
    )
    found = json.loads(done.stdout)
    return {
        COST: 1e6 * found["cpu_s"] / found["raw_bytes"],
        "raw MB/s": found["raw_bytes"] / 1e6 / found["wall_s"],
        "CPU s/MB full": 8e6 * found["cpu_s"] / found["conditioned_bits"],
        "full bits out / assessed bits in, %": 100 * found["conditioned_bits"] / found["assessed_bits"],
    }


def rngtest(path: str, raw_bytes: int) -> Samples:
    """Run the FIPS tests over the same number of bytes."""
    blocks = raw_bytes // FIPS_BLOCK_BYTES
    begun = time.perf_counter()
    with open(path, "rb") as noise:
        argv = ["rngtest", "--pipe", f"--blockcount={blocks}"]
        process = subprocess.Popen(argv, stdin=noise, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _pid, _status, used = os.wait4(process.pid, 0)
        process.returncode = 0  # already waited for above
    megabytes = blocks * FIPS_BLOCK_BYTES / 1e6
    return {
        COST: (used.ru_utime + used.ru_stime) / megabytes,
        "raw MB/s": megabytes / (time.perf_counter() - begun),
    }


def stages() -> dict[str, Callable[[bytes], object]]:
    """Return the stages of a block, in order."""
    per_byte, per_bit = CLAIM.min_entropy, CLAIM.min_entropy / 8
    conditioner = Conditioner()
    supply = Supply(Reservoir(2**26, low_mark=2**26, high_mark=2**26))

    def deposit(block: bytes) -> None:
        supply.assess(Bits(8 * len(block)))
        supply.deposit(FullEntropy(bytearray(block[: len(block) * OUTPUT_BITS // INPUT_BITS])))

    return {
        "repetition count, bytes": RepetitionCountTest(per_byte, "byte").feed,
        "adaptive proportion, bytes": AdaptiveProportionTest(per_byte, "byte", BYTE_WINDOW).feed,
        "repeat": RepeatTest(per_byte, hash_key=os.urandom(32)).feed,
        "distant repeat": DistantRepeatTest(per_byte, hash_key=os.urandom(32)).feed,
        "repetition count, bits": BitRepetitionCountTest(per_bit).feed,
        "adaptive proportion, bits": BitProportionTest(per_bit, BIT_WINDOW).feed,
        "most common value": MostCommonValue(per_byte).feed,
        "conditioning": lambda block: conditioner.feed(TestedBlock(block, CLAIM.assessed(len(block)))),
        "reservoir and ledger": deposit,
    }


def measure_stages(report: Report, rounds: int, blocks: int) -> None:
    """Time each stage over the same blocks."""
    todo = stages()
    for _ in range(rounds):
        noise = [os.urandom(SLICE_BYTES) for _ in range(blocks)]
        costs = {name: _cost(stage, noise) for name, stage in todo.items()}
        for name, cost in costs.items():
            report.add(STAGES, name, {COST: cost})
        report.add(STAGES, "all of them", {COST: sum(costs.values())})


def _cost(stage: Callable[[bytes], object], noise: list[bytes]) -> float:
    begun = time.process_time()
    for block in noise:
        stage(block)
    return 1e6 * (time.process_time() - begun) / (len(noise) * SLICE_BYTES)


def main() -> None:
    args = arguments(__doc__ or "")
    rounds, megabytes, slow_bytes = (1, 1, 57_000) if args.quick else (3, 4, 228_000)
    report = Report("CPU for raw noise, tested and conditioned; assessed at 6 bits a byte")
    stay_on(SERVER_CORE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with fifo(folder) as pipe, simulated(folder, 0) as fast, simulated(folder, 57_000) as real:
            for number in range(rounds):
                progress(f"round {number + 1} of {rounds}")
                report.add(END_TO_END, "drawwell, FIFO", drawwell("chardev", pipe, megabytes * 10**6))
                if shutil.which("rngtest"):
                    report.add(END_TO_END, "rngtest --pipe, FIFO", rngtest(pipe, 4 * megabytes * 10**6))
                report.add(
                    END_TO_END, "drawwell, OneRNG unthrottled", drawwell("onerng", fast, megabytes * 10**6)
                )
                report.add(END_TO_END, "drawwell, OneRNG at 57 kB/s", drawwell("onerng", real, slow_bytes))
    if not shutil.which("rngtest"):
        report.missing("rngtest", "rng-tools-debian")
    report.ratio(END_TO_END, "drawwell, FIFO", "rngtest --pipe, FIFO", COST)
    progress("stages")
    measure_stages(report, rounds, 256 if args.quick else 1024)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
