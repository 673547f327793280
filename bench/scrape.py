"""Measure the cost of scraping /metrics on a broker with 1,000 consumers.

Ten consumers draw all the time, without scrapes and with one per second. The CPU of a scrape
is measured separately, in both formats.
"""

import contextlib
import http.client
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from overload import measured
from rig.load import connect_drawwell, draw_of, exchange_once
from rig.processes import CLIENT_CORE, cpu_s, free_port, raise_file_limit, stay_on
from rig.report import Report, Samples, arguments, percentile, progress
from rig.site import URANDOM, Site

from drawwell.entropy.blocks import DrawClass

CONSUMERS: Final = 1000
DRAWING: Final = 10
FORMATS: Final = {"Prometheus": "text/plain", "OpenMetrics": "application/openmetrics-text"}
SCRAPED: Final = "a scrape each second"
DRAWS: Final = f"32-byte draws, class drbg, {DRAWING} of {CONSUMERS} consumers"
COST: Final = "one scrape"


class ObservedSite(Site):
    """A site whose broker serves /metrics to programs on this machine."""

    health = 0

    def configuration(self, port: int, source: str = URANDOM, broker: str = "") -> str:
        path = super().configuration(port, source, broker)
        self.health = free_port()
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f'[health]\nlisten = "127.0.0.1:{self.health}"\n')
        return path

    def scrape(self, accept: str = "text/plain") -> int:
        """Scrape once; return the size of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.health)
        connection.request("GET", "/metrics", headers={"Accept": accept})
        size = len(connection.getresponse().read())
        connection.close()
        return size


def cost(site: ObservedSite, pid: int, accept: str, scrapes: int) -> Samples:
    """Return the broker's CPU time for one scrape."""
    before, size = cpu_s(pid), 0
    for _ in range(scrapes):
        size = site.scrape(accept)
    each = (cpu_s(pid) - before) / scrapes
    return {"CPU ms": each * 1000, "% of a core at 1/s": each * 100, "KiB": size / 1024}


@contextlib.contextmanager
def scraped(site: ObservedSite, every_s: float) -> Iterator[None]:
    """Scrape in a separate thread, at an interval in seconds; 0 means never."""
    over = threading.Event()

    def scrape() -> None:
        while every_s and not over.wait(every_s):
            site.scrape()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def longest_draw_ms(link: ssl.SSLSocket, during: Callable[[], object]) -> float:
    """Draw during the work of another thread; return the longest draw."""
    longest, exchange = 0.0, draw_of(32, DrawClass.DRBG)
    thread = threading.Thread(target=during)
    thread.start()
    while thread.is_alive():
        begun = time.perf_counter()
        exchange_once(link, exchange)
        longest = max(longest, time.perf_counter() - begun)
    return longest * 1000


def delays(site: ObservedSite, link: ssl.SSLSocket, scrapes: int) -> list[float]:
    """Return by how many ms each scrape lengthened the longest draw."""
    found = []
    for _ in range(scrapes):
        begun = time.perf_counter()
        with_it = longest_draw_ms(link, site.scrape)
        took_s = time.perf_counter() - begun
        without = longest_draw_ms(link, partial(time.sleep, took_s))
        found.append(max(0.0, with_it - without))
    return found


def main() -> None:
    """Measure, and print the figures."""
    args = arguments(__doc__ or "")
    rounds, seconds, scrapes = (1, 1.0, 20) if args.quick else (5, 10.0, 200)
    report = Report("What a scrape costs")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder:
        site = ObservedSite(Path(folder), CONSUMERS)
        with site.broker() as broker:
            site.wait_until_full()
            stay_on(CLIENT_CORE)
            for name, accept in FORMATS.items():
                progress(f"scraping: {name}")
                report.add(COST, name, cost(site, broker.pid, accept, scrapes))
            links = [
                connect_drawwell(site.client_context(name), broker.port) for name in site.names[:DRAWING]
            ]
            measured(links, broker, 0.2)  # warm
            progress("delays")
            delay = percentile(sorted(delays(site, links[0], scrapes)), 0.99)
            for _ in range(rounds):
                for name, every_s in (("no scrape", 0.0), (SCRAPED, 1.0)):
                    progress(name)
                    with scraped(site, every_s):
                        report.add(DRAWS, name, measured(links, broker, seconds))
    for figure in ("draws/s", "p99 ms"):
        report.ratio(DRAWS, SCRAPED, "no scrape", figure)
    report.notes.append(f"in 99 of 100 scrapes: delays no draw by more than {delay:.2f} ms")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
