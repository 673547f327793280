"""Measure a fleet: a revocation at one broker, and a killed broker.

Three broker processes use one PostgreSQL with a synchronous standby. Machines are revoked at
one broker while they draw from the other two. The figure is the time from the command until
both others have refused a draw. Then one consumer has two brokers and draws over TLS, and the
broker that serves it is killed with SIGKILL. The benchmark counts the serial numbers and the
bytes that occur twice.
"""

import asyncio
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rig.report import Report, arguments, progress

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, DrawwellError, LinkUnavailable, PermissionRefused
from drawwell.links.failover import Failover
from drawwell.links.identity import LinkIdentity
from drawwell.links.tls import TlsLink

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.daemon import Daemon
from support.fleet import FleetSites
from support.postgres import pair

REVOCATIONS = 40
DEATHS = 5
BEFORE_S, AFTER_S = 1.0, 3.0
"""How long the consumer draws before its broker is killed, and after it."""


async def revocations(report: Report, fleet: FleetSites, count: int) -> None:
    """Revoke machines at the first broker; measure until the others refuse."""
    first, *others = fleet.sites
    for number in range(count):
        progress(f"revocation {number + 1} of {count}")
        name = f"web{number:02}"
        identity = await fleet.enrol(name, first)
        links = [site.link(identity) for site in others]
        for link in links:
            await link.draw(8, DrawClass.DRBG)
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            refused = [group.create_task(refused_at(link)) for link in links]
            await first.ask("consumer.revoke", {"name": name})
            answered = time.monotonic()
        last = max(task.result() for task in refused)
        measured = {"until the answer ms": answered - begun, "until refused at the others ms": last - begun}
        report.add("a revocation", "three brokers", {name: 1000 * s for name, s in measured.items()})
        for link in links:
            await link.aclose()


async def refused_at(link: TlsLink) -> float:
    """Draw until the broker refuses this machine; return the time."""
    while True:
        try:
            await link.draw(8, DrawClass.DRBG)
        except (PermissionRefused, AuthenticationFailed, LinkUnavailable):  # or the session is closed
            return time.monotonic()


async def death(report: Report, fleet: FleetSites, daemon: Daemon, identity: LinkIdentity) -> None:
    """Kill the broker that serves a consumer, and start it again."""
    progress("killing a broker")
    failover = Failover([site.link(identity) for site in fleet.sites[:2]], jitter=random.random)
    gaps, failed, serials, pieces = [0.0], 0, [], []
    last = begun = time.monotonic()
    killed = False
    while last - begun < BEFORE_S + AFTER_S:
        if not killed and last - begun >= BEFORE_S:
            daemon.kill()
            killed = True
        try:
            grant = await failover.draw(32, DrawClass.DRBG)
        except DrawwellError:
            failed += 1
            await asyncio.sleep(failover.wait_s())
            continue
        serials.append(grant.serial)
        pieces.append(bytes(grant.data))
        now = time.monotonic()
        gaps.append(now - last)
        last = now
    await failover.aclose()
    daemon.start()
    await fleet.sites[0].until_healthy(share=0.1)
    assert serials[0] >> 40 != serials[-1] >> 40
    measured = {
        "longest gap ms": 1000 * max(gaps),
        "draws that failed": float(failed),
        "serials or bytes twice": float(2 * len(serials) - len(set(serials)) - len(set(pieces))),
        "draws": float(len(serials)),
    }
    report.add("the broker of a consumer is killed", "two brokers", measured)


async def run(report: Report, fleet: FleetSites, *, quick: bool) -> None:
    """Measure revocations and killed brokers."""
    async with fleet.running() as daemons:
        await revocations(report, fleet, 2 if quick else REVOCATIONS)
        identity = await fleet.enrol("app01", fleet.sites[0], quota="1GiB/week")
        for _ in range(1 if quick else DEATHS):
            await death(report, fleet, daemons[0], identity)


def main() -> None:
    args = arguments(__doc__ or "")
    report = Report("brokers of a fleet")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dw-")))
        both = stack.enter_context(pair())
        asyncio.run(run(report, FleetSites(folder, both.database()), quick=args.quick))
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
