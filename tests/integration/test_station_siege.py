"""A real broker under attack at its TLS door still serves."""

import asyncio
import contextlib
import os
import random
import resource
import socket
import ssl
import struct
import time

import pytest

from drawwell.crypto import pki
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import AuthenticationFailed, DrawwellError, LinkUnavailable, PermissionRefused
from drawwell.host.clock import WallClock
from drawwell.links.renewal import renew_if_due
from drawwell.links.tls import TlsLink
from drawwell.simulator.pty import PtyDevice
from drawwell.wire.contexts import client_context
from support.certificates import PaperAuthority
from support.daemon import Daemon
from support.station import Site, running

pytestmark = pytest.mark.slow

CROWD = 1000
RSS_BYTES = 150 * 2**20
"""Generous: about 45 MB idle. With asyncio's 256 KiB each, 1,000 connections add 250 MB."""


def rss_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def many_descriptors():
    """Allow this process enough descriptors for a crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CROWD + 200
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"may open {hard} files only, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def dial(site: Site) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (site.address, 55000))
    return sock


def client_hello() -> bytes:
    """Return the first flight of a TLS handshake, without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["drawwell/1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


HELLO = client_hello()
NOISE = random.Random(1).randbytes(20_000)
OPENINGS = {
    "half-open": b"",
    "half a handshake": HELLO[: len(HELLO) // 2],
    "a handshake that stalls": HELLO,
    "garbage": NOISE,
    "a giant record": b"\x16\x03\x01\xff\xff" + NOISE,
    "plain frames": struct.pack(">I", 2**32 - 1) + NOISE,
    "HTTP": b"GET / HTTP/1.1\r\nHost: well\r\n\r\n" * 300,
}


async def attack(site: Site, opening: bytes, count: int) -> list[socket.socket]:
    """Open this many connections, send the data on each, then nothing."""
    crowd = []
    for _ in range(count):
        sock = await dial(site)
        crowd.append(sock)
        with contextlib.suppress(OSError):
            sock.send(opening)
    return crowd


@pytest.mark.parametrize("name", OPENINGS)
def test_a_crowd_at_the_door_leaves_a_served_consumer_unaffected(folder, name) -> None:
    """Unidentified peers use limited memory and delay no draw."""
    site = Site(folder)
    count = CROWD if name in {"half-open", "a handshake that stalls"} else 200

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=1, rate=0):
            with many_descriptors(), Daemon("broker", config=site.path, log=folder / "log") as daemon:
                await site.until_healthy()
                identity = await site.enrol("web01")
                link = site.link(identity)
                await link.draw(32, DrawClass.FULL)
                served = 0

                async def customer() -> None:
                    nonlocal served
                    while True:
                        served += len(await link.draw(32, DrawClass.FULL))

                async with asyncio.TaskGroup() as group:
                    drawing = group.create_task(customer())
                    crowd = await attack(site, OPENINGS[name], count)
                    during = served
                    newcomer = site.link(identity)
                    assert len(await newcomer.draw(32, DrawClass.FULL)) == 32
                    assert rss_bytes(daemon.pid) < RSS_BYTES
                    drawing.cancel()
                assert during > 0
                assert len(await link.draw(32, DrawClass.FULL)) == 32
                for sock in crowd:
                    sock.close()
                await newcomer.aclose()
                await link.aclose()
                assert (await site.ask("status"))["ready"]

    asyncio.run(run())


def test_a_peer_that_does_not_read_delays_no_other_and_is_bounded(folder) -> None:
    """Consumers that do not read use limited memory; others can draw."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=2, rate=0):
            with Daemon("broker", config=site.path, log=folder / "log") as daemon:
                await site.until_healthy()
                identities = [await site.enrol(name) for name in ("lazy", "web01")]
                link = site.link(identities[1])
                lazy = [site.link(identities[0]) for _ in range(20)]
                for each in lazy:
                    await each.welcome()
                    each._protocol.transport.pause_reading()
                    for _ in range(60):
                        each._protocol.ask(each._protocol.session.draw(DrawRequest(65_536, DrawClass.DRBG)))
                for _ in range(50):
                    assert len(await link.draw(32, DrawClass.FULL)) == 32
                assert rss_bytes(daemon.pid) < RSS_BYTES
                for each in lazy:
                    await each.aclose()
                await link.aclose()

    asyncio.run(run())


async def refused(link: TlsLink) -> type[DrawwellError] | None:
    """Return the class of a draw's error, or None."""
    try:
        await link.draw(32, DrawClass.FULL)
    except DrawwellError as error:
        return type(error)
    finally:
        await link.aclose()
    return None


def test_only_those_who_joined_here_and_were_not_revoked_are_served(folder) -> None:
    """Foreign, self-signed and revoked certificates get no byte."""
    (folder / "other").mkdir()
    site, other = Site(folder), Site(folder / "other")
    paper = PaperAuthority(folder, "well")

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=3, rate=0), running(site):
            await site.until_healthy()
            identity = await site.enrol("web01")

            def linked(certificate: str, key: str) -> TlsLink:
                context = lambda: client_context(certificate, key, identity.ca_path)  # noqa: E731
                return TlsLink(site.address, 55000, context=context)

            assert await refused(linked(identity.certificate_path, identity.key_path)) is None
            assert await refused(linked(*paper.client("web01")[:2])) is AuthenticationFailed
            async with running(other):
                elsewhere = await other.enrol("web01")
            assert (
                await refused(linked(elsewhere.certificate_path, elsewhere.key_path)) is AuthenticationFailed
            )
            await site.ask("consumer.revoke", {"name": "web01"})
            assert await refused(linked(identity.certificate_path, identity.key_path)) is AuthenticationFailed
            again = await site.enrol("web01")
            assert await refused(linked(again.certificate_path, again.key_path)) is None

    asyncio.run(run())


def test_a_revocation_ends_an_open_session(folder) -> None:
    """A revoked consumer's open session gets nothing; the other continues."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=4, rate=0), running(site) as process:
            await site.until_healthy()
            links = [site.link(await site.enrol(name)) for name in ("web01", "db01")]
            for link in links:
                await link.draw(32, DrawClass.FULL)
            delivered = process.station.broker.report().ledger.delivered_bits
            await site.ask("consumer.revoke", {"name": "web01"})
            with pytest.raises(AuthenticationFailed):
                await links[0].draw(32, DrawClass.FULL)
            assert process.station.broker.report().ledger.delivered_bits == delivered
            await links[1].draw(32, DrawClass.FULL)
            for link in links:
                await link.aclose()

    asyncio.run(run())


def test_a_machine_whose_certificate_ran_out_renews_and_draws(folder, monkeypatch) -> None:
    """After two weeks off a machine must renew before it can draw."""
    site, ahead = Site(folder), [0.0]

    class Ahead(WallClock):
        def __call__(self) -> float:
            return time.time() + ahead[0]

        dates = __call__

    monkeypatch.setattr("drawwell.roles.broker_process.WallClock", Ahead)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=5, rate=0), running(site):
            await site.until_healthy()
            identity = await site.enrol("web01")
            ahead[0] = 14 * pki.DAY_S
            link = site.link(identity)
            with pytest.raises(PermissionRefused, match="renewed"):
                await link.draw(32, DrawClass.FULL)
            assert await renew_if_due(link, identity, time.time() + ahead[0])
            assert len(await link.draw(32, DrawClass.FULL)) == 32
            await link.aclose()

    asyncio.run(run())


def test_a_link_to_another_broker_with_the_same_name_is_not_drawn_over(folder) -> None:
    """A consumer sends nothing to a broker with another CA."""
    (folder / "other").mkdir()
    site, impostor = Site(folder), Site(folder / "other")

    async def run() -> None:
        async with running(site):
            identity = await site.enrol("web01")
        async with running(impostor):
            context = lambda: client_context(  # noqa: E731
                identity.certificate_path, identity.key_path, identity.ca_path
            )
            link = TlsLink(impostor.address, 55000, context=context)
            with pytest.raises((AuthenticationFailed, LinkUnavailable)):
                await link.draw(32, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())
