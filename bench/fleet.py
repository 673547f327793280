"""Measure a fleet's leases: rate, cost, and gaps during a failure.

The brokers are threads that lease like brokers, from Debian's PostgreSQL: a single server, and
a primary with a synchronous standby. The CPU figures include all server processes. Then one
consumer draws with leases while the store is killed, paused, or replaced by its standby; the
figure is the longest gap between two draws. The last figures are a run of 10,000 consumers
with one lease each, and the cost calculated from it for 100,000 consumers.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from rig.report import Report, arguments, progress

from drawwell.entropy.leased_quota import LeaseAsk, LeasedQuota
from drawwell.errors import DrawwellError, StateUnavailable
from drawwell.fleet.connection import Address
from drawwell.fleet.leases import Leases
from drawwell.units import Allowance

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.postgres import Pair, Server, pair, server

TOTAL: Final = Allowance(2**60, 200 * 365 * 86400.0)
CONSUMERS: Final = 2_000
LEASE_S: Final = 60.0
"""Interval at which a drawing consumer needs a lease, in the model."""
OUTAGE_S: Final = 5.0


def cpu_s(servers: Sequence[Server]) -> float:
    """Return the CPU seconds of the servers, including ended processes."""
    return sum(each.cpu_s() for each in servers)


def lease_for(seconds: float, address: str, batch: int, brokers: int) -> list[float]:
    """Let brokers lease for a while; return the duration of each statement."""
    took: list[float] = []
    ends = time.monotonic() + seconds

    def lease(broker: int) -> None:
        leases = Leases(Address(address), f"bench-{broker}")
        number = broker * 97
        while (begun := time.monotonic()) < ends:
            names = [f"c{(number + each) % CONSUMERS}" for each in range(batch)]
            leases.lease({name: LeaseAsk(32, None, TOTAL) for name in names})
            took.append(time.monotonic() - begun)
            number += batch
        leases.close()

    threads = [threading.Thread(target=lease, args=(broker,)) for broker in range(brokers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def rates(report: Report, group: str, servers: Sequence[Server], address: str, seconds: float) -> None:
    """Measure leases by the size of a statement, and by the number of brokers."""
    lease_for(0.5, address, 256, 1)  # creates the rows
    for batch, brokers in ((1, 1), (16, 1), (256, 1), (1, 3), (16, 3), (256, 3)):
        progress(f"{group}: {batch} in a statement, brokers: {brokers}")
        before = cpu_s(servers)
        took = lease_for(seconds, address, batch, brokers)
        leases = len(took) * batch
        measured = {
            "leases/s": leases / seconds,
            "p50 ms": 1000 * statistics.median(took),
            "server CPU ms/1000": 1e6 * (cpu_s(servers) - before) / leases,
        }
        report.add(group, f"{batch} in a statement, {brokers} broker{'s' * (brokers > 1)}", measured)
    for batch in (1, 16, 256):
        ours, one = (f"{batch} in a statement, {n} broker{'s' * (n > 1)}" for n in (3, 1))
        report.ratio(group, ours, one, "leases/s")


@contextmanager
def drawing(address: str) -> Iterator[tuple[list[float], list[str]]]:
    """Repeatedly draw 32 bytes with leases; yield gaps and errors."""
    leases, total = Leases(Address(address), "bench-gap"), Allowance(64 << 20, TOTAL.period_s)
    quota, gaps, errors, stop = LeasedQuota(None, total, lambda: None), [0.0], [""], threading.Event()

    def draw() -> None:
        last = time.monotonic()
        while not stop.wait(0.001):
            try:
                if not quota.admit(32, time.monotonic()):
                    ask = quota.reservation(32, time.monotonic())
                    quota.confirm(leases.lease({"web01": ask})["web01"] if ask else None)  # type: ignore[arg-type]
                    quota.admit(32, time.monotonic())
            except DrawwellError as error:
                errors.append(type(error).__name__)
                continue
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield gaps, errors
    finally:
        stop.set()
        thread.join()
        leases.close()


def outage(report: Report, what: str, address: str, fail: Callable[[], None]) -> None:
    """Measure the effect of a failure on consumers with and without a lease."""
    progress(what)
    with drawing(address) as (gaps, errors):
        time.sleep(1)
        gaps.clear()
        fail()
        fresh, begun = Leases(Address(address), "bench-new"), time.monotonic()
        while True:
            try:
                fresh.lease({"new": LeaseAsk(32, None, TOTAL)})
                break
            except StateUnavailable:
                time.sleep(0.01)
        waited = time.monotonic() - begun
        fresh.close()
    measured = {"longest gap s": max(gaps), "errors": len(errors) - 1.0, "first new lease after s": waited}
    report.add("what a consumer sees", what, measured)


def outages(report: Report, made: Pair, address: str, seconds: float) -> None:
    """Pause, kill and replace the primary."""

    def paused() -> None:
        made.primary.pause()
        time.sleep(seconds)
        made.primary.resume()

    def killed() -> None:
        made.primary.kill()
        time.sleep(seconds)
        made.primary.start()

    def replaced() -> None:
        made.primary.kill()
        made.standby.promote()

    outage(report, f"the network to the primary hangs for {seconds:g} s", address, paused)
    outage(report, f"the primary is killed and back after {seconds:g} s", address, killed)
    outage(report, "the primary is killed and its standby promoted", address, replaced)


def crowd(report: Report, servers: Sequence[Server], address: str, consumers: int) -> None:
    """Lease once for each of many consumers; scale the cost to 100,000."""
    progress(f"{consumers} consumers")
    leases, before, begun = Leases(Address(address), "bench-crowd"), cpu_s(servers), time.monotonic()
    names = [f"n{number:06}" for number in range(consumers)]
    for at in range(0, consumers, 256):
        leases.lease({name: LeaseAsk(32, None, TOTAL) for name in names[at : at + 256]})
    took, cpu = time.monotonic() - begun, cpu_s(servers) - before
    leases.close()
    report.add("a lease for each", f"{consumers} consumers", {"s": took, "server CPU s": cpu})
    scale = 100_000 / consumers
    model = {
        "s": took * scale,
        "server CPU s": cpu * scale,
        "server cores at one lease a minute": cpu * scale / LEASE_S,
    }
    report.add("a lease for each", "model of 100000", model)


def main() -> None:
    args = arguments(__doc__ or "")
    report = Report("leases of a fleet")
    seconds = 0.3 if args.quick else 3.0
    with ExitStack() as stack:
        alone = stack.enter_context(server(fsync="on"))
        rates(report, "PostgreSQL alone", [alone], alone.database().broker, seconds)
        both = stack.enter_context(pair())
        address = both.database().broker
        rates(report, "with a synchronous standby", list(both), address, seconds)
        crowd(report, list(both), address, 1_000 if args.quick else 10_000)
        outages(report, both, address, 0.5 if args.quick else OUTAGE_S)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
