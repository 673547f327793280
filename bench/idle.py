"""Measure 10,000 idle connections: memory, time to open, draws meanwhile.

Every connection is an open session over mutual TLS 1.3, from one of many loopback addresses.
The server has one core. The clients share the other core with the drawing consumer, which has
priority.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from rig.load import WAIT_S, closed_loop, connect_drawwell, draw_of, receive
from rig.processes import CLIENT_CORE, SERVER_CORE, Server, cpu_s, memory_kib, raise_file_limit, stay_on
from rig.report import Report, Samples, percentile, progress
from rig.site import URANDOM, Site

from drawwell.entropy.blocks import DrawClass
from drawwell.wire.frames import Hello, Welcome
from drawwell.wire.limits import HEADER_BYTES, PROTOCOL_VERSION

EACH: Final = 50
"""Connections of one consumer; the door allows 64."""
HOLDERS: Final = 2
"""Processes that hold connections."""
AT_ONCE: Final = 16
"""Concurrent handshakes of a holder."""
TRIES: Final = 50
SETTLE_S: Final = 1.0
GROUP: Final = "32-byte draws, class drbg, one consumer"


class RoomySite(Site):
    """A site whose TLS door admits enough sessions."""

    def __init__(self, folder: Path, consumers: int, sessions: int) -> None:
        super().__init__(folder, consumers)
        self._sessions = sessions

    def configuration(self, port: int, source: str = URANDOM, broker: str = "") -> str:
        path = super().configuration(port, source, broker)
        text = Path(path).read_text()
        Path(path).write_text(text.replace("[tls]\n", f"[tls]\nmax_sessions = {self._sessions}\n"))
        return path


def open_all(site: Site, names: list[str], port: int, address: str, result: Connection) -> None:
    """Open and keep EACH connections for every name; send the times."""
    raise_file_limit()
    stay_on(CLIENT_CORE)
    os.nice(19)  # the drawing consumer has priority on this core
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    contexts = {name: site.client_context(name) for name in names}

    def one(name: str) -> tuple[object, float, int]:
        for tries in range(TRIES):
            try:
                plain = socket.create_connection(("127.0.0.1", port), WAIT_S, source_address=(address, 0))
                link = contexts[name].wrap_socket(plain, server_hostname="127.0.0.1")
                link.sendall(Hello((PROTOCOL_VERSION,), "bench").encode())
                header = receive(link, HEADER_BYTES)
                if header[0] == Welcome.TYPE:
                    receive(link, int.from_bytes(header[1:], "big"))
                    return link, time.monotonic(), tries
            except (OSError, SystemExit):
                time.sleep(0.05 * (tries + 1))
        raise SystemExit("a connection was never let in")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        held = list(pool.map(one, [name for name in names for _ in range(EACH)]))
    result.send((max(moment for _, moment, _ in held), sum(tries for *_, tries in held)))
    result.recv()  # keep the connections until then


@contextlib.contextmanager
def crowd(site: Site, port: int) -> Iterator[list[Connection]]:
    """Open connections in separate processes until the block ends."""
    fork = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for number in range(HOLDERS):
        ours, theirs = fork.Pipe()
        names = site.names[1 + number :: HOLDERS]
        process = fork.Process(target=open_all, args=(site, names, port, f"127.0.0.{10 + number}", theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    try:
        yield pipes
    finally:
        for process in processes:
            process.terminate()
            process.join()


def draws(link: object, server: Server, seconds: float) -> Samples:
    cpu = cpu_s(server.pid)
    latencies = sorted(closed_loop([link], draw_of(32, DrawClass.DRBG), seconds))  # type: ignore[list-item]
    return {
        "draws/s": len(latencies) / seconds,
        "p50 ms": 1e3 * percentile(latencies, 0.5),
        "p99 ms": 1e3 * percentile(latencies, 0.99),
        "server CPU %": 100 * (cpu_s(server.pid) - cpu) / seconds,
    }


def measure(report: Report, site: Site, server: Server, seconds: float) -> None:
    link = connect_drawwell(site.client_context(site.names[0]), server.port)
    draws(link, server, 0.2)  # warm
    report.add(GROUP, "alone", draws(link, server, seconds))
    rss, pss = memory_kib(server.pid)
    begun, used_s = time.monotonic(), cpu_s(server.pid)
    with crowd(site, server.port) as pipes:
        progress("connections open")
        while not all(pipe.poll() for pipe in pipes):
            report.add(GROUP, "while they connect", draws(link, server, 1.0))
        found = [pipe.recv() for pipe in pipes]
        used_s = cpu_s(server.pid) - used_s
        time.sleep(SETTLE_S)
        rss_then, pss_then = memory_kib(server.pid)
        count = sum(len(site.names[1 + number :: HOLDERS]) * EACH for number in range(HOLDERS))
        report.add(GROUP, "with them, idle", draws(link, server, seconds))
        took = max(moment for moment, _ in found) - begun
        report.add(
            f"{count:,} connections",
            "drawwell",
            {
                "RSS KiB each": (rss_then - rss) / count,
                "PSS KiB each": (pss_then - pss) / count,
                "seconds to connect": took,
                "a second": count / took,
                "server CPU s": used_s,
                "tries that failed": sum(failed for _, failed in found),
            },
        )
    for when in ("while they connect", "with them, idle"):
        for figure in ("draws/s", "p99 ms"):
            report.ratio(GROUP, when, "alone", figure)


def share_core(pid: int) -> None:
    """Allow a broker both cores; the consumer that draws has priority."""
    os.sched_setaffinity(pid, {SERVER_CORE, CLIENT_CORE})
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        priority = os.sched_getparam(0).sched_priority
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--both-cores", action="store_true", help="let the broker use the clients' core too")
    parser.add_argument("--quick", action="store_true", help="500 connections: does it work, not how fast")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    wanted = 500 if args.quick else args.connections
    consumers = math.ceil(wanted / EACH)
    report = Report("idle connections over mutual TLS 1.3")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder:
        site = RoomySite(Path(folder), 1 + consumers, sessions=wanted + EACH + 512)
        with site.broker() as broker:
            if args.both_cores:
                share_core(broker.pid)
            site.wait_until_full()
            stay_on(CLIENT_CORE)
            measure(report, site, broker, 0.5 if args.quick else 3.0)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
