"""Measure 32-byte draws over mutual TLS by 1, 32 and 1,000 consumers.

Every connection keeps one request open. The server has one core, the load another. During
draws of class full the source refills the reservoir on the same core. The source is
/dev/urandom, tested and conditioned like a OneRNG at 6 bits per byte, so that no device limits
the rate. In the same run: a bare asyncio server with ssl that answers 32 constant bytes (the
limit of the platform), and socat, with a connection and a process for each 32 bytes.
"""

import shutil
import ssl
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rig import peers
from rig.load import BARE_32, Exchange, closed_loop, connect, connect_drawwell, draw_of, receive
from rig.processes import CLIENT_CORE, cpu_s, raise_file_limit, stay_on
from rig.report import Report, Samples, arguments, percentile, progress
from rig.site import Site

from drawwell.entropy.blocks import DrawClass

SOCAT_AT_MOST: Final = 32
"""Most concurrent connections; each is a process."""
Contender = Callable[[float], Samples]
"""Measures for this many seconds."""


def figures(latencies: list[float], seconds: float, cpu: float) -> Samples:
    ordered = sorted(latencies)
    return {
        "draws/s": len(ordered) / seconds,
        "p50 ms": 1e3 * percentile(ordered, 0.5),
        "p99 ms": 1e3 * percentile(ordered, 0.99),
        "max ms": 1e3 * ordered[-1],
        "server CPU µs": 1e6 * cpu / len(ordered),
    }


def kept(links: list[ssl.SSLSocket], exchange: Exchange, pid: int, before: Callable[[], None]) -> Contender:
    """Return a contender with persistent connections."""

    def measure(seconds: float) -> Samples:
        before()
        cpu = cpu_s(pid)
        latencies = closed_loop(links, exchange, seconds)
        return figures(latencies, seconds, cpu_s(pid) - cpu)

    return measure


def one_shot(contexts: list[ssl.SSLContext], port: int, pid: int) -> Contender:
    """Return a contender with a connection for each 32 bytes."""

    def connect_again(context: ssl.SSLContext, end: float) -> list[float]:
        latencies = []
        while (begun := time.perf_counter()) < end:
            with connect(context, port) as link:
                receive(link, 32)
            latencies.append(time.perf_counter() - begun)
        return latencies

    def measure(seconds: float) -> Samples:
        cpu, end = cpu_s(pid), time.perf_counter() + seconds
        with ThreadPoolExecutor(len(contexts)) as pool:
            found = pool.map(lambda context: connect_again(context, end), contexts)
            latencies = [one for each in found for one in each]
        return figures(latencies, seconds, cpu_s(pid) - cpu)

    return measure


def measure_level(
    report: Report, level: int, contenders: dict[str, Contender], rounds: int, seconds: float
) -> None:
    group = f"{level:,} consumer{'s' * (level > 1)}"
    for number in range(rounds):
        for name, contender in contenders.items():
            progress(f"{group}, round {number + 1} of {rounds}: {name}")
            report.add(group, name, contender(seconds))
    for ours in ("drawwell drbg", "drawwell full"):
        for peer in ("asyncio + ssl, bare", "socat, one connection each"):
            report.ratio(group, ours, peer, "draws/s")
            report.ratio(group, ours, peer, "server CPU µs")


def main() -> None:
    args = arguments(__doc__ or "")
    levels, rounds, seconds = ((1, 32), 1, 0.3) if args.quick else ((1, 32, 1000), 3, 0.8)
    report = Report("32-byte draws over mutual TLS 1.3")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        site = Site(Path(folder), max(levels))
        # Always refilling, and large enough for a round in which the draws use the whole core.
        broker = servers.enter_context(site.broker(broker='reservoir = "4MiB"\nlow_mark = "99%"'))
        bare = servers.enter_context(peers.bare_asyncio(site))
        socat = (
            servers.enter_context(peers.socat(site, "/dev/urandom,readbytes=32"))
            if peers.has_socat()
            else None
        )
        stay_on(CLIENT_CORE)
        for level in levels:
            progress(f"connecting {level:,} consumers")
            contexts = [site.client_context(name) for name in site.names[:level]]
            ours = [connect_drawwell(context, broker.port) for context in contexts]
            theirs = [connect(context, bare.port) for context in contexts]
            contenders = {
                f"drawwell {each}": kept(ours, draw_of(32, each), broker.pid, site.wait_until_full)
                for each in (DrawClass.DRBG, DrawClass.FULL)
            }
            contenders["asyncio + ssl, bare"] = kept(theirs, BARE_32, bare.pid, lambda: None)
            if socat and level <= SOCAT_AT_MOST:
                contenders["socat, one connection each"] = one_shot(contexts, socat.port, socat.pid)
            measure_level(report, level, contenders, rounds, seconds)
            for link in ours + theirs:
                link.close()
    if not shutil.which("socat"):
        report.missing("socat", "socat")
    report.notes.append(f"socat makes a process for each connection: not run above {SOCAT_AT_MOST}")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
