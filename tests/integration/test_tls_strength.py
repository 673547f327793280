"""Weak suites with OpenSSL's programs: no bytes are requested or served."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from drawwell.config.values import HostPort
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable
from drawwell.host.openssl import offered
from drawwell.roles.make_links_and_sinks import tls_link
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Draw, Hello, Welcome
from support.certificates import PaperAuthority
from support.station import Site, own_address, running

ASKED = Hello((1,), "openssl").encode() + Draw(32, DrawClass.FULL, request_id=1).encode()
WEAK, STRONG, OTHER = "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"


async def _answer(site: Site, directory: str, suite: str) -> bytes:
    """Return the answer to a consumer that uses `suite`."""
    command = ["openssl", "s_client", "-connect", site.tls, "-quiet", "-alpn", "drawwell/1"]
    command += ["-ciphersuites", suite, "-CAfile", f"{directory}/ca.pem", "-verify_quiet"]
    command += ["-cert", f"{directory}/cert.pem", "-key", f"{directory}/key.pem"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(ASKED)
    try:
        async with asyncio.timeout(DEADLINE_S):
            got = b""
            while len(got) < 50 and (piece := await process.stdout.read(50 - len(got))):
                got += piece
            return got
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def test_a_consumer_with_a_weak_suite_is_sent_nothing(folder: Path) -> None:
    """A 256-bit suite is welcomed; the weak one gets no byte."""

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick"), running(site):
            await site.until_healthy()
            directory = (await site.enrol("web01")).directory
            for suite in (STRONG, OTHER):
                assert (await _answer(site, directory, suite))[0] == Welcome.TYPE
            before = (await site.ask("status"))["consumers"]
            assert await _answer(site, directory, WEAK) == b""
            assert (await site.ask("status"))["consumers"] == before

    asyncio.run(run())


@pytest.mark.parametrize(("suite", "message"), [(WEAK, "too weak"), (STRONG, "welcome|closed|protocol")])
def test_a_broker_with_a_weak_suite_is_left(folder: Path, suite: str, message: str) -> None:
    """The link disconnects from a broker with AES-128, and reports the reason."""
    authority, address = PaperAuthority(folder), own_address()
    certificate, key, ca = authority.server(address)
    for source, name in zip(authority.client("web01"), ("cert.pem", "key.pem", "ca.pem"), strict=True):
        (folder / name).touch(0o600)
        (folder / name).write_bytes(Path(source).read_bytes())
    command = ["openssl", "s_server", "-accept", f"{address}:55000", "-alpn", "drawwell/1", "-tls1_3"]
    command += ["-ciphersuites", suite, "-cert", certificate, "-key", key, "-CAfile", ca, "-Verify", "1"]

    async def run() -> None:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout
        try:
            async with asyncio.timeout(DEADLINE_S):
                while b"ACCEPT" not in await process.stdout.readline():
                    pass
            link = tls_link(str(folder), HostPort(address, 55000))
            link._open_deadline_s = DEADLINE_S if suite == WEAK else 5.0  # short: no welcome comes
            with pytest.raises(LinkUnavailable, match=message):
                await link.draw(32, DrawClass.FULL)
            await link.aclose()
        finally:
            process.terminate()
            await process.wait()

    asyncio.run(run())


def test_status_counts_key_exchanges(folder: Path) -> None:
    """Before a handshake no group is listed; afterwards, the negotiated one."""

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick"), running(site) as process:
            await site.until_healthy()
            assert (await site.ask("status"))["notes"] == []
            link = site.link(await site.enrol("web01"))
            await link.draw(32, DrawClass.FULL)
            await link.aclose()
            assert process.station
            (note,) = (await site.ask("status"))["notes"]
            assert note in {f"tls key exchanges: {group} (1)" for group in offered()}

    asyncio.run(run())
