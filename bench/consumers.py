"""Measure what many invited consumers cost a broker.

One broker has 1,000 consumers in its state and another 100,000. Each consumer has a quota and
the rows of a redeemed invitation, and one consumer draws. The benchmark measures the time from
the start to the first grant, the waits of draws while consumers are invited and while the list
is read, the list, the status, and memory. During the draws no program starts: one process
draws, and this one sends the control verbs. To compare with another commit, run it there too.
"""

import contextlib
import itertools
import json
import multiprocessing
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

from rig.load import draw_of
from rig.processes import CLIENT_CORE, Server, cpu_s, free_port, memory_kib, running, stay_on
from rig.report import Report, arguments, percentile, progress
from rig.site import URANDOM
from rig.unix import exchange, greeted

from drawwell.cli.client import ask
from drawwell.entropy.blocks import DrawClass

FEW, MANY = 1_000, 100_000
INVITATIONS: Final = 20
APART_S: Final = 0.1
ROUNDS: Final = 3
PEACE, INVITING, READING = "without invitations", "while others are invited", "while the list is read"
WITHIN_S: Final = 600.0
LATER: Final = 4e9
DRAW: Final = draw_of(32, DrawClass.DRBG)
PROGRAM: Final = (sys.executable, "-m", "drawwell")


class Crowd:
    """A broker's folder with this many consumers in its state."""

    def __init__(self, folder: Path, consumers: int) -> None:
        self.folder, self.consumers = folder, consumers
        folder.mkdir()
        self.config = folder / "drawwell.toml"
        self.control = f"{folder}/run/control.sock"
        self._new = itertools.count()
        self.config.write_text(f"""\
[broker]
name = "bench"
state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[source]]
name = "supply"
{URANDOM}
[tls]
listen = "127.0.0.1:{free_port()}"
[enrol]
listen = "127.0.0.1:{free_port()}"
""")
        with self.broker():
            pass  # creates the state
        self._fill()

    def _fill(self) -> None:
        names = [f"c{number:06}" for number in range(self.consumers)]
        state = json.dumps({"period": 0, "period_s": 86_400.0, "reserved_bytes": 1024})
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "broker.db")) as db, db:
            db.executemany(
                "INSERT INTO consumers (name, quota, classes, created) VALUES (?, '[10485760, 86400.0]', 'drbg', 0)",
                ((name,) for name in names),
            )
            db.executemany(
                "INSERT INTO invitations (id, consumer, secret_hash, created, expires, status, used_at)"
                " VALUES (?, ?, x'00', 1, 900, 'used', 2)",
                ((f"i{name}", name) for name in names),
            )
            db.executemany(
                "INSERT INTO certificates (spki, consumer, serial, not_after) VALUES (?, ?, '1', ?)",
                ((f"{number:064x}", name, LATER) for number, name in enumerate(names)),
            )
            db.executemany("INSERT INTO quota VALUES (?, ?)", ((name, state) for name in names))

    @contextlib.contextmanager
    def broker(self) -> Iterator[tuple[Server, float]]:
        """Run the broker; yield the seconds from its start to its first grant."""
        argv = [*PROGRAM, "broker", "-q", "-c", str(self.config)]
        begun = time.perf_counter()
        with running(argv, stderr=None) as process:
            while not self._granted():
                if process.poll() is not None or time.perf_counter() - begun > WITHIN_S:
                    raise SystemExit("the broker grants nothing")
                time.sleep(0.002)
            yield Server(process.pid, 0), time.perf_counter() - begun

    def _granted(self) -> bool:
        with contextlib.suppress(OSError), greeted(f"{self.folder}/run/draw.sock") as link:
            return exchange(link, DRAW.request).startswith(DRAW.answer_starts)
        return False

    def invite(self) -> None:
        """Invite one more consumer."""
        ask(self.control, "consumer.invite", {"name": f"new{next(self._new)}"})

    def read_list(self) -> None:
        """Read the list of consumers; `ask` fetches all its pages."""
        ask(self.control, "consumer.list", {})

    def draws(self, until: Event) -> list[float]:
        """Draw repeatedly; return each answer's latency in seconds."""
        latencies = []
        with greeted(f"{self.folder}/run/draw.sock") as link:
            while not until.is_set():
                begun = time.perf_counter()
                exchange(link, DRAW.request)
                latencies.append(time.perf_counter() - begun)
        return latencies

    def typed(self, *arguments: str) -> tuple[str, float]:
        """Run a command; return its output and its duration."""
        begun = time.perf_counter()
        done = subprocess.run(
            [*PROGRAM, *arguments, "-c", str(self.config)], capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - begun
        return done.stdout if done.returncode == 0 else "", took


@contextlib.contextmanager
def drawing(crowd: Crowd) -> Iterator[list[float]]:
    """Draw in another process; the list gets the latencies after the block."""
    fork = multiprocessing.get_context("fork")
    stop, (ours, theirs) = fork.Event(), fork.Pipe()
    process = fork.Process(target=lambda: theirs.send(sorted(crowd.draws(stop))), daemon=True)
    process.start()
    theirs.close()
    latencies: list[float] = []
    try:
        yield latencies
    finally:
        stop.set()
        latencies += ours.recv()
        process.join()


def waits(report: Report, group: str, crowd: Crowd, *, quick: bool) -> None:
    """Measure the waits of draws without control verbs and during them."""
    what, count = f"{group}: the waits of a consumer that draws", 2 if quick else INVITATIONS
    acts: dict[str, Callable[[], None]] = {PEACE: lambda: None, INVITING: crowd.invite}
    for _, (name, act) in itertools.product(range(1 if quick else ROUNDS), acts.items()):
        with drawing(crowd) as latencies:
            for _ in range(count):
                time.sleep(APART_S)
                act()
        add_waits(report, what, name, latencies)
    with drawing(crowd) as latencies:
        crowd.read_list()
    add_waits(report, what, READING, latencies)
    beyond = report.median(what, INVITING, "longest ms") - report.median(what, PEACE, "longest ms")
    report.add(f"{group}: the longest wait, less that without invitations", INVITING, {"ms": beyond})


def add_waits(report: Report, group: str, name: str, latencies: list[float]) -> None:
    p99, longest = 1e3 * percentile(latencies, 0.99), 1e3 * latencies[-1]
    report.add(group, name, {"longest ms": longest, "p99 ms": p99, "draws": len(latencies)})


def invitations(report: Report, group: str, crowd: Crowd, server: Server, *, quick: bool) -> None:
    """Measure the cost of an invitation for an idle broker."""
    count = 2 if quick else INVITATIONS
    used_s = cpu_s(server.pid)
    for _ in range(count):
        crowd.invite()
    report.add("an invitation", group, {"broker's CPU ms": 1e3 * (cpu_s(server.pid) - used_s) / count})


def measure(report: Report, folder: Path, consumers: int, *, quick: bool) -> None:
    group = f"{consumers:,} consumers"
    crowd = Crowd(folder, consumers)
    for number in range(1 if quick else 3):
        progress(f"{group}, start {number + 1}")
        with crowd.broker() as (server, first_s):
            rss, _ = memory_kib(server.pid)
            report.add(
                "from the start to the first grant",
                group,
                {"s": first_s, "CPU s": cpu_s(server.pid), "RSS MiB": rss / 1024},
            )
    with crowd.broker() as (server, _):
        progress(f"{group}, invitations")
        invitations(report, group, crowd, server, quick=quick)
        waits(report, group, crowd, quick=quick)
        for command in (
            ("consumer", "list", "--json"),
            ("consumer", "list", "c0000*", "--json"),
            ("status", "--json"),
        ):
            text, took_s = crowd.typed(*command)
            listed = len(json.loads(text).get("consumers", ())) if text else -1
            report.add(
                f"{group}: answers (-1 consumers: refused)",
                " ".join(command),
                {"consumers": listed, "s": took_s},
            )


def main() -> None:
    args = arguments(__doc__ or "")
    report = Report("many invited consumers, one that draws")
    stay_on(CLIENT_CORE)
    with tempfile.TemporaryDirectory() as folder:
        for consumers in (100, 1000) if args.quick else (FEW, MANY):
            measure(report, Path(folder) / str(consumers), consumers, quick=args.quick)
    few, many = (f"{count:,} consumers" for count in ((100, 1000) if args.quick else (FEW, MANY)))
    for figure in ("s", "RSS MiB"):
        report.ratio("from the start to the first grant", many, few, figure)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
