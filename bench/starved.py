"""Let consumers wait for a slow source; measure draws and CPU.

The source makes as much noise as a OneRNG, and the reservoir is small. Each consumer draws 32
bytes of class full, waits for them, and draws again. The supply is what the source's noise
was conditioned to meanwhile; all of it should reach the consumers, in any crowd.
"""

import contextlib
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rig.load import Exchange, connect_drawwell, draw_of, served
from rig.processes import CLIENT_CORE, Server, cpu_s, raise_file_limit, stay_on
from rig.report import Report, Samples, arguments, progress
from rig.site import Site

from drawwell.entropy.blocks import DrawClass
from drawwell.wire.frames import Draw

CROWDS: Final = (100, 1000, 3000)
NOISE_BYTES_PER_S: Final = 40_000
EVERY_S: Final = 0.02
PATIENCE_S: Final = 30.0
DRAW_BYTES: Final = 32
SEEDING_S: Final = 12.0


@contextlib.contextmanager
def noise(path: Path) -> Iterator[str]:
    """Write noise to a FIFO at a OneRNG's rate; yield the source's settings."""
    os.mkfifo(path)
    fd, over = os.open(path, os.O_RDWR | os.O_NONBLOCK), threading.Event()

    def write() -> None:
        while not over.wait(EVERY_S):
            with contextlib.suppress(BlockingIOError):
                os.write(fd, os.urandom(int(NOISE_BYTES_PER_S * EVERY_S)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield f'driver = "chardev"\npath = "{path}"\nmin_entropy = 6.0\n'
    finally:
        over.set()
        writer.join()
        os.close(fd)


def waiting_draw() -> Exchange:
    answer = draw_of(DRAW_BYTES, DrawClass.FULL)
    request = Draw(DRAW_BYTES, DrawClass.FULL, request_id=1, patience_s=PATIENCE_S).encode()
    return Exchange(request, answer.answer_bytes, answer.answer_starts)


def connected(site: Site, server: Server, crowd: int) -> list[ssl.SSLSocket]:
    return [connect_drawwell(site.client_context(name), server.port) for name in site.names[:crowd]]


def seed(site: Site, server: Server, seconds: float) -> None:
    """Let each consumer draw once, because its first draw also takes a seed."""
    links = connected(site, server, len(site.names))
    while not all(served(links, waiting_draw(), seconds)):
        for link in links:
            link.close()
        links = connected(site, server, len(site.names))
    for link in links:
        link.close()


def measure(site: Site, server: Server, crowd: int, seconds: float) -> Samples:
    """Let a crowd draw for a while."""
    links = connected(site, server, crowd)
    cpu, supplied = cpu_s(server.pid), _supplied_bytes(site)
    counts = served(links, waiting_draw(), seconds)
    cpu, supplied = cpu_s(server.pid) - cpu, _supplied_bytes(site) - supplied
    for link in links:
        link.close()
    draws = sum(counts)
    return {
        "draws/s": draws / seconds,
        "share of the supply": draws * DRAW_BYTES / supplied,
        "server CPU µs": cpu / max(1, draws) * 1e6,
    }


def _supplied_bytes(site: Site) -> float:
    (source,) = site.status()["sources"]
    return float(source["conditioned_bits"]) / 8


def main() -> None:
    args = arguments(__doc__ or "")
    report = Report("draws from a slow source")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder, noise(Path(folder) / "noise") as source:
        crowds = (10, 50) if args.quick else CROWDS
        site = Site(Path(folder), max(crowds))
        with site.broker(source, broker='reservoir = "4KiB"\nmax_draw = "1KiB"') as server:
            site.wait_until_full()
            stay_on(CLIENT_CORE)
            progress("each consumer draws once")
            seed(site, server, 1.0 if args.quick else SEEDING_S)
            for crowd in crowds:
                progress(f"{crowd:,} consumers wait")
                measured = measure(site, server, crowd, 1.0 if args.quick else 5.0)
                report.add("32-byte draws of class full", f"{crowd:,} waiting", measured)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
