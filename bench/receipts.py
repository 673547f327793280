"""Measure CPU of single draws with a receipt, for broker and signer.

One consumer repeatedly draws 32 bytes of class drbg over the Unix socket. The keys are in the
broker's process (`drawwell broker`) or in a signer (`drawwell broker run`).
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rig.processes import CLIENT_CORE, SERVER_CORE, cpu_s, running, stay_on, wait_for_path
from rig.report import Report, arguments, progress

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError
from drawwell.links.blocking import BlockingLink
from drawwell.testing.waiting import wait_until

WHERE: Final = "CPU of one draw"
WARM_UP: Final = 200
NEEDED: Final = {"one process": ("broker",), "keys apart": ("signer run", "broker run", "source run stick")}


def configuration(folder: Path) -> Path:
    """Write the configuration of a broker with a simulated stick."""
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "bench"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        'reservoir = "8KiB"\nmax_draw = "1KiB"\n'
        f'[signer]\ndir = "{folder}/keys"\nsocket = "{folder}/signer.sock"\n[kernel]\nfeed = false\n'
        f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "off"\n'
        f'[[consumer]]\nname = "web01"\nuser = "root"\n'
    )
    return config


@contextlib.contextmanager
def processes(folder: Path, how: str) -> Iterator[list[int]]:
    """Run the processes; yield the process IDs of the measured ones."""
    config, program = configuration(folder), [sys.executable, "-m", "drawwell"]
    with contextlib.ExitStack() as stack:
        stick = [*program, "source", "simulate", "-q", "--link", str(folder / "stick")]
        wait_for_path(stack.enter_context(running(stick, core=CLIENT_CORE)), folder / "stick")
        measured = []
        for verb in NEEDED[how]:
            argv = [*program, *verb.split(), "-q", "-c", str(config)]
            process = stack.enter_context(running(argv, core=SERVER_CORE, stderr=None))
            if not verb.startswith("source"):
                measured.append(process.pid)
            if verb == "signer run":
                wait_for_path(process, folder / "signer.sock")
            elif verb.startswith("broker"):
                wait_for_path(process, folder / "run" / "draw.sock")
        yield measured


def draw(link: BlockingLink, *, receipt: bool) -> bool:
    """Return whether a draw succeeded."""
    try:
        return bool(link.draw(32, DrawClass.DRBG, receipt=receipt).data)
    except DrawwellError:
        return False


def measure(report: Report, how: str, draws: int) -> None:
    """Measure draws with and without receipts."""
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        folder = Path(name)
        with processes(folder, how) as pids:
            link = BlockingLink(str(folder / "run" / "draw.sock"))
            wait_until(lambda: draw(link, receipt=True), "it signs receipts")
            for receipt in (False, True):
                for _ in range(WARM_UP):
                    draw(link, receipt=receipt)
                before = sum(map(cpu_s, pids))
                done = sum(draw(link, receipt=receipt) for _ in range(draws))
                used = (sum(map(cpu_s, pids)) - before) / done
                report.add(WHERE, f"{how}, {'with' if receipt else 'without'} a receipt", {"µs": used * 1e6})
            link.close()


def main() -> None:
    args = arguments(__doc__ or "")
    report = Report("Single draws with a receipt, 32 bytes of class drbg over the Unix socket")
    stay_on(CLIENT_CORE)
    for number in range(1 if args.quick else 3):
        for how in NEEDED:
            progress(f"round {number + 1}: {how}")
            measure(report, how, 1000 if args.quick else 5000)
    report.ratio(WHERE, "keys apart, with a receipt", "one process, with a receipt", "µs")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
