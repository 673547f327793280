"""Measure rate and CPU of 32-byte EGD requests on a Unix socket.

There is one client. It measures in turn: the classes drbg and full, on asyncio and on uvloop
if installed; for blocking requests (0x02), on the same loops, a bare server with 32 constant
bytes and the least of a broker (`rig/least.py`), and ESDM's server; and entropybroker's
eb_client_egd, for nonblocking requests (0x01).
ESDM's server is found in the path or through ESDM_SERVER.
"""

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from draws import figures
from rig import entropybroker
from rig.peers import bare_unix, esdm, esdm_server, least_unix
from rig.processes import CLIENT_CORE, Server, cpu_s, stay_on
from rig.report import Report, Samples, arguments, progress
from rig.site import URANDOM, Site

from drawwell.entropy.blocks import DrawClass
from drawwell.service.loops import ENVIRONMENT

WAITING: Final = "waiting requests (0x02 0x20)"
COUNTED: Final = "counted requests (0x01 0x20)"
REQUESTS: Final = {WAITING: b"\x02\x20", COUNTED: b"\x01\x20"}
WARM_UP: Final = 200
ESDM: Final = "esdm-server"


def requests(path: str, pids: list[int], kind: str, seconds: float) -> Samples:
    """Send requests in sequence; count the answers under 32 bytes."""
    plain = socket.socket(socket.AF_UNIX)
    plain.connect(path)
    link = entropybroker.Link(plain)
    request, counted = REQUESTS[kind], kind == COUNTED

    def once() -> int:
        link.sendall(request)
        n_bytes = link.receive(1)[0] if counted else 32
        link.receive(n_bytes)
        return n_bytes

    for _ in range(WARM_UP):
        once()
    latencies, short = [], 0
    cpu, end = sum(map(cpu_s, pids)), time.perf_counter() + seconds
    while (asked := time.perf_counter()) < end:
        short += once() < 32
        latencies.append(time.perf_counter() - asked)
    link.close()
    return figures(latencies, seconds, sum(map(cpu_s, pids)) - cpu) | {"short": short}


@contextlib.contextmanager
def on_loop(name: str) -> Iterator[None]:
    """Make brokers in the block run on this event loop."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = name
    try:
        yield
    finally:
        os.environ.pop(ENVIRONMENT)
        if before is not None:
            os.environ[ENVIRONMENT] = before


def contenders(
    servers: ExitStack, root: Path, loops: list[str], seconds: float
) -> dict[tuple[str, str], Callable[[], Samples]]:
    """Start all servers; return a measurement for each kind of request."""
    found: dict[tuple[str, str], Callable[[], Samples]] = {}

    def add(kind: str, name: str, path: str, pids: list[int], before: Callable[[], None]) -> None:
        def measure() -> Samples:
            before()
            return requests(path, pids, kind, seconds)

        found[kind, name] = measure

    for loop in loops:
        folder = root / loop
        folder.mkdir()
        site = Site(folder)
        doors = "".join(
            f'[[egd]]\nlisten = "{folder}/egd-{each}"\nconsumer = "c0"\nclass = "{each}"\n'
            for each in DrawClass
        )
        with on_loop(loop):
            ours = servers.enter_context(site.broker(URANDOM + doors, 'reservoir = "4MiB"\nlow_mark = "99%"'))
            least = servers.enter_context(least_unix(folder))
        bare = servers.enter_context(bare_unix(folder, loop))
        for kind in REQUESTS:
            for each in (DrawClass.DRBG, DrawClass.FULL):
                add(
                    kind, f"drawwell {each}, {loop}", f"{folder}/egd-{each}", [ours.pid], site.wait_until_full
                )
        add(WAITING, f"least, {loop}", f"{folder}/least", [least.pid], lambda: None)
        add(WAITING, f"bare, {loop}", f"{folder}/bare", [bare.pid], lambda: None)
    if esdm_server():
        other = servers.enter_context(esdm(root))
        add(WAITING, ESDM, f"{root}/esdm", [other.pid], lambda: None)
    if entropybroker.installed():
        theirs: Server = servers.enter_context(entropybroker.broker(root))

        def measure_theirs() -> Samples:
            with entropybroker.egd(root, theirs.port) as (path, pid):
                return requests(path, [pid, theirs.pid], COUNTED, seconds)

        found[COUNTED, "eb_client_egd"] = measure_theirs
    return found


def main() -> None:
    args = arguments(__doc__ or "")
    rounds, seconds = (1, 0.5) if args.quick else (5, 1.0)
    report = Report("EGD, 32 bytes a request, Unix socket, one client")
    loops = ["asyncio", "uvloop"] if find_spec("uvloop") else ["asyncio"]
    with tempfile.TemporaryDirectory(prefix="egd-") as folder, ExitStack() as servers:
        todo = contenders(servers, Path(folder), loops, seconds)
        stay_on(CLIENT_CORE)
        for number in range(rounds):
            for (kind, name), measure in todo.items():
                progress(f"round {number + 1} of {rounds}: {name}")
                report.add(kind, name, measure())
    for loop in loops:
        report.ratio(WAITING, f"least, {loop}", f"bare, {loop}", "server CPU µs")
        report.ratio(WAITING, f"drawwell drbg, {loop}", f"least, {loop}", "server CPU µs")
        for each in (DrawClass.DRBG, DrawClass.FULL):
            report.ratio(WAITING, f"drawwell {each}, {loop}", f"bare, {loop}", "server CPU µs")
            report.ratio(WAITING, f"drawwell {each}, {loop}", f"bare, {loop}", "draws/s")
            report.ratio(WAITING, f"drawwell {each}, {loop}", ESDM, "draws/s")
            report.ratio(COUNTED, f"drawwell {each}, {loop}", "eb_client_egd", "draws/s")
    if not find_spec("uvloop"):
        report.missing("uvloop", "python3-uvloop")
    if not entropybroker.installed():
        report.missing("entropybroker", "entropybroker")
    if not esdm_server():
        report.notes.append("ESDM is in no Debian release up to 12, and ESDM_SERVER names none: not compared")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
