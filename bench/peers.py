"""Compare drawwell with Debian's other programs in one run, as ratios.

The peers are entropybroker, socat, stunnel and openssl s_server. The benchmark measures draws
of 32 bytes over persistent connections, a thousand consumers at once, and the rate and CPU of
a stream to one consumer; egd.py measures EGD. The server has one core, the load the other.
entropybroker has no TLS, but 3DES with MD5 by default. socat, stunnel and s_server accept no
requests, so they are measured as streams.
"""

import contextlib
import math
import signal
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from draws import figures
from rig import entropybroker, peers
from rig.load import BARE_32, Exchange, closed_loop, connect, connect_drawwell, draw_of, served
from rig.processes import CLIENT_CORE, Server, cpu_s, raise_file_limit, stay_on
from rig.report import Report, Samples, arguments, progress
from rig.site import Site
from stream import from_drawwell, from_peer

from drawwell.entropy.blocks import DrawClass

EB: Final = "entropybroker"
STREAM: Final = "one consumer, as fast as it goes"
HANGS_AFTER_S: Final = 60
AT_ONCE: Final = "1,000 consumers at once, 32-byte draws"
CROWD: Final = 1000
CROWD_S: Final = 20.0
"""Long enough for hundreds of draws per consumer, so that shares are not chance."""
GET_BYTES: Final = 4096
"""entropybroker's limit for one get."""


@contextlib.contextmanager
def bounded(report: Report, what: str) -> Iterator[None]:
    """Report that `what` could not be measured, with the reason, and continue."""

    def hung(*_: Any) -> None:
        raise TimeoutError(f"no answer in {HANGS_AFTER_S} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    except (OSError, SystemExit) as error:
        report.notes.append(f"{what} could not be measured: {error}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def loop(links: list[Any], exchange: Exchange, pids: list[int], seconds: float) -> Samples:
    cpu = sum(map(cpu_s, pids))
    latencies = closed_loop(links, exchange, seconds)
    return figures(latencies, seconds, sum(map(cpu_s, pids)) - cpu)


def small_draws(
    report: Report,
    site: Site,
    ours: Server,
    theirs: Server | None,
    *,
    level: int,
    rounds: int,
    seconds: float,
) -> None:
    group = f"32-byte draws, {level} consumer{'s' * (level > 1)}"
    links = [connect_drawwell(site.client_context(name), ours.port) for name in site.names[:level]]
    for number in range(rounds):
        progress(f"{group}, round {number + 1} of {rounds}")
        for each in (DrawClass.DRBG, DrawClass.FULL):
            site.wait_until_full()
            report.add(group, f"drawwell {each}", loop(links, draw_of(32, each), [ours.pid], seconds))
        if theirs:
            with bounded(report, f"{EB}, {group}"), contextlib.ExitStack() as opened:
                logged_in = [entropybroker.connect(theirs.port) for _ in range(level)]
                for link in logged_in:
                    opened.callback(link.close)
                report.add(group, EB, loop(logged_in, entropybroker.get(32), [theirs.pid], seconds))
    for ours_link in links:
        ours_link.close()
    for ours_as in ("drawwell drbg", "drawwell full"):
        for figure in ("draws/s", "p99 ms", "server CPU µs"):
            report.ratio(group, ours_as, EB, figure)


def crowd(
    report: Report,
    site: Site,
    ours: Server,
    theirs: Server | None,
    *,
    seconds: float,
    bare: Mapping[str, Server] = MappingProxyType({}),
) -> None:
    """Connect, log in and draw, all at once; measure how many and how equally."""
    contexts = [site.client_context(name) for name in site.names[:CROWD]]
    dials: dict[str, tuple[Callable[[ssl.SSLContext], Any], Exchange]] = {
        "drawwell drbg": (lambda context: connect_drawwell(context, ours.port), draw_of(32, DrawClass.DRBG)),
    }
    if theirs:
        dials[EB] = (lambda _: entropybroker.connect(theirs.port), entropybroker.get(32))
    for loop, server in bare.items():
        dials[f"bare {loop}"] = (partial(connect, port=server.port), BARE_32)
    for name, (dial, exchange) in dials.items():
        progress(f"{CROWD:,} consumers at once: {name}")
        begun = time.perf_counter()
        with ThreadPoolExecutor(CROWD) as pool:
            links = [link for link in pool.map(lambda context: _or_none(dial, context), contexts) if link]  # noqa: B023
        came_s = time.perf_counter() - begun
        counts = served(links, exchange, seconds)
        least, most = min(counts, default=0), max(counts, default=0)
        report.add(
            AT_ONCE,
            name,
            {
                "connected": len(links),
                "served": sum(map(bool, counts)),
                "seconds to connect": came_s,
                "draws/s": sum(counts) / seconds,
                "max/min": most / least if least else math.inf,
                "min/median": least / max(1, statistics.median(counts or [0])),
            },
        )
        for link in links:
            link.close()


def _or_none(dial: Callable[[ssl.SSLContext], Any], context: ssl.SSLContext) -> Any:
    try:
        return dial(context)
    except (OSError, SystemExit, ValueError):
        return None


def gets(server: Server, seconds: float) -> Samples:
    """Get the maximum each time, and wait while nothing is available."""
    link = entropybroker.connect(server.port)
    request, taken, starved = entropybroker.get(GET_BYTES).request, 0, 0
    cpu, begun = cpu_s(server.pid), time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        link.sendall(request)
        while (header := link.receive(8))[:4] in entropybroker.NEWS:
            pass
        if header[:4] != entropybroker.GOT:
            starved += 1
            time.sleep(0.01)
            continue
        n_bytes = int.from_bytes(header[4:], "big") // 8
        link.receive(entropybroker.MAC_BYTES + n_bytes)
        taken += n_bytes
    link.close()
    if not taken:
        raise ConnectionError(f"{starved} gets and no byte")
    return {"MB/s": taken / 1e6 / (now - begun), "server CPU s/GB": 1e9 * (cpu_s(server.pid) - cpu) / taken}


def streams(
    report: Report,
    site: Site,
    ours: Server,
    theirs: Server | None,
    *,
    servers: ExitStack,
    rounds: int,
    seconds: float,
) -> None:
    others: dict[str, Callable[[], Samples]] = {}
    todo = {
        "socat OPENSSL": (peers.has_socat, peers.socat, "socat"),
        "stunnel + cat": (peers.has_stunnel, peers.stunnel, "stunnel4"),
        "openssl s_server": (peers.has_openssl, peers.s_server, "openssl"),
    }
    for name, (has, serve, package) in todo.items():
        if not has():
            report.missing(name, package)
            continue
        server = servers.enter_context(serve(site, "/dev/urandom"))
        others[name] = lambda server=server: from_peer(site, server, 1, seconds)  # type: ignore[misc]
    if theirs:
        others[EB] = lambda: gets(theirs, seconds)
    for number in range(rounds):
        progress(f"streams, round {number + 1} of {rounds}")
        report.add(STREAM, "drawwell drbg", from_drawwell(site, ours, 1, seconds))
        for name, measure in others.items():
            with bounded(report, f"{name}, as a stream"):
                report.add(STREAM, name, measure())
    for name in others:
        report.ratio(STREAM, "drawwell drbg", name, "MB/s")
        report.ratio(STREAM, "drawwell drbg", name, "server CPU s/GB")


def main() -> None:
    args = arguments(__doc__ or "")
    rounds, seconds = (1, 0.5) if args.quick else (3, 1.0)
    report = Report("drawwell and its peers")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        site = Site(Path(folder), 100 if args.quick else CROWD)
        ours = servers.enter_context(site.broker(broker='reservoir = "4MiB"\nlow_mark = "99%"'))
        theirs = None
        if entropybroker.installed():
            theirs = servers.enter_context(entropybroker.broker(site.folder))
        else:
            report.missing(EB, EB)
        site.wait_until_full()
        stay_on(CLIENT_CORE)
        for level in (1, 10, 100):
            small_draws(report, site, ours, theirs, level=level, rounds=rounds, seconds=seconds)
        streams(report, site, ours, theirs, servers=servers, rounds=rounds, seconds=seconds)
        # last, because entropybroker has crashed under it
        crowd(report, site, ours, theirs, seconds=2 * seconds if args.quick else CROWD_S)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
