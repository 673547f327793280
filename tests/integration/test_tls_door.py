"""The TLS door over real sockets, and the link to it."""

import asyncio
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from drawwell.doors.tls import TlsDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, ConfigError, LinkUnavailable, PermissionRefused
from drawwell.links.tls import TlsLink
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.contexts import client_context, server_context
from drawwell.wire.frames import Bye, Draw, Hello, Welcome
from support.certificates import PaperAuthority
from support.fake_broker import FakeBroker
from support.tls_house import House, PaperRegistry, drained


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PaperAuthority:
    return PaperAuthority(tmp_path_factory.mktemp("ca"))


def test_consumer_draws_over_mutual_tls(authority: PaperAuthority) -> None:
    """The registry names the consumer; draws of all sizes differ."""

    async def run() -> None:
        async with House(authority).open() as house:
            link = house.link()
            welcome = await link.welcome()
            assert (welcome.consumer, welcome.renew_only) == ("web01", False)
            grants = [await link.draw(n, DrawClass.FULL) for n in (1, 32, 16384, 65536)]
            assert [len(grant.data) for grant in grants] == [1, 32, 16384, 65536]
            assert [grant.serial for grant in grants] == [1, 2, 3, 4]
            assert await link.call("status", {}) == {"peer": "consumer:web01", "args": {}}
            await link.aclose()
            assert house.broker.drawn_bytes == {"web01": 1 + 32 + 16384 + 65536}

    asyncio.run(run())


def test_many_consumers_get_distinct_bytes(authority: PaperAuthority) -> None:
    """In thirty-two sessions with eight draws each, all grants differ."""

    async def run() -> None:
        async with House(authority).open() as house:
            links = [house.link() for _ in range(32)]
            grants = await asyncio.gather(
                *(link.draw(32, DrawClass.FULL) for link in links for _ in range(8))
            )
            assert len({grant.data for grant in grants}) == 256
            assert (house.door.sessions, house.door.counts.accepted) == (32, 32)
            for link in links:
                await link.aclose()

    asyncio.run(run())


def test_revocation_bites_on_the_next_draw_of_an_open_session(authority: PaperAuthority) -> None:
    """Once revoked, the next draw is refused and the session ends."""

    async def run() -> None:
        async with House(authority).open() as house:
            link = house.link()
            await link.draw(32, DrawClass.FULL)
            house.registry.revoked = True
            with pytest.raises(PermissionRefused, match="web01 is revoked") as caught:
                await link.draw(32, DrawClass.FULL)
            assert caught.value.hint == "Ask for a new invitation."
            assert house.broker.serial == 1
            with pytest.raises(PermissionRefused):
                await link.draw(32, DrawClass.FULL)
            assert house.door.counts.accepted == 2

    asyncio.run(run())


def test_certificate_that_is_unknown_is_closed_without_a_frame(authority: PaperAuthority) -> None:
    """An unknown certificate gets close_notify, and the link explains it."""

    async def run() -> None:
        async with House(authority).open() as house:
            house.registry.known = False
            reader, writer = await house.raw()
            assert await drained(reader) == b""
            writer.close()
            with pytest.raises(AuthenticationFailed, match="refused our certificate") as caught:
                await house.link().draw(32, DrawClass.FULL)
            assert "invitation" in (caught.value.hint or "")
            assert (house.door.counts.admitted, house.door.counts.unauthenticated) == (0, 2)

    asyncio.run(run())


def test_self_made_certificate_is_closed_by_an_alert(authority: PaperAuthority, tmp_path: Path) -> None:
    """A foreign certificate gets an alert and AuthenticationFailed."""

    async def run() -> None:
        async with House(authority).open() as house:
            certificate, key, _ = PaperAuthority(tmp_path).client("web01")
            context = client_context(certificate, key, authority.ca)
            link = TlsLink("127.0.0.1", house.port, context=lambda: context)
            with pytest.raises(AuthenticationFailed):
                await link.draw(32, DrawClass.FULL)
            assert (house.door.counts.admitted, house.door.counts.unauthenticated) == (0, 1)

    asyncio.run(run())


def test_link_does_not_speak_to_an_impostor(authority: PaperAuthority, tmp_path: Path) -> None:
    """A broker with another CA is refused."""

    async def run() -> None:
        async with House(PaperAuthority(tmp_path)).open() as house:
            context = client_context(*authority.client("web01"))
            with pytest.raises(AuthenticationFailed, match="not trusted"):
                await TlsLink("127.0.0.1", house.port, context=lambda: context).draw(32, DrawClass.FULL)
            assert house.broker.serial == 0

    asyncio.run(run())


def test_certificate_that_ran_out_may_be_renewed_and_nothing_else(authority: PaperAuthority) -> None:
    """With an expired certificate only the verb renew works."""

    async def run() -> None:
        async with House(authority).open() as house:
            house.registry.renew_only = True
            files = authority.client("web01", ran_out_s_ago=86400.0)
            link = TlsLink("127.0.0.1", house.port, context=lambda: client_context(*files))
            assert (await link.welcome()).renew_only
            with pytest.raises(PermissionRefused, match="has expired"):
                await link.draw(32, DrawClass.FULL)
            with pytest.raises(PermissionRefused, match="has expired"):
                await link.call("status", {})
            assert (await link.call("renew", {"csr": "x"}))["args"] == {"csr": "x"}
            assert house.broker.serial == 0
            await link.aclose()

    asyncio.run(run())


def test_certificate_that_runs_out_during_a_session_stops_its_draws(authority: PaperAuthority) -> None:
    """The registry is checked before each request, not only at the start."""

    async def run() -> None:
        async with House(authority).open() as house:
            link = house.link()
            await link.draw(32, DrawClass.FULL)
            house.registry.renew_only = True
            with pytest.raises(PermissionRefused, match="has expired"):
                await link.draw(32, DrawClass.FULL)
            await link.call("renew", {})
            assert house.door.counts.accepted == 1
            await link.aclose()

    asyncio.run(run())


def test_reload_takes_new_files_for_new_sessions_and_keeps_the_old_ones_open(
    authority: PaperAuthority, tmp_path: Path
) -> None:
    """A reload changes the CA, except for open sessions or with bad files."""

    async def run() -> None:
        async with House(authority).open() as house:
            old, good = house.link(), house.files
            await old.draw(32, DrawClass.FULL)
            house.files = ("/nowhere", *good[1:])
            with pytest.raises(ConfigError):
                house.door.reload()
            again = house.link()
            await again.draw(32, DrawClass.FULL)

            new_ca = PaperAuthority(tmp_path)
            house.files = new_ca.server("127.0.0.1")
            house.door.reload()
            context = client_context(*new_ca.client("web01"))
            new = TlsLink("127.0.0.1", house.port, context=lambda: context)
            await new.draw(32, DrawClass.FULL)
            await old.draw(32, DrawClass.FULL)
            with pytest.raises(AuthenticationFailed):
                await house.link().draw(32, DrawClass.FULL)
            for link in (old, again, new):
                await link.aclose()

    asyncio.run(run())


def test_door_that_closes_sends_bye_within_tls(authority: PaperAuthority) -> None:
    """The last frame is a BYE with the reason."""

    async def run() -> None:
        house = House(authority)
        async with house.open():
            reader, writer = await house.raw()
            writer.write(Hello((1,)).encode())
            welcome = Welcome(1, "drawwell", "web01").encode()
            assert await reader.readexactly(len(welcome)) == welcome
        assert await drained(reader) == Bye("the broker is closing").encode()
        writer.close()

    asyncio.run(run())


def test_every_address_is_listened_on(authority: PaperAuthority) -> None:
    """With the host * the door listens on IPv4 and IPv6."""

    async def run() -> None:
        async with House(authority, host="*").open() as house:
            for host in ("127.0.0.1", *(["::1"] if _has_ipv6() else [])):
                link = house.link(host=host)
                await link.draw(32, DrawClass.FULL)
                await link.aclose()

    asyncio.run(run())


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_port_in_use_is_said_with_a_hint(authority: PaperAuthority) -> None:
    """The error has address and port; the hint shows how to find its user."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        files = authority.server("localhost")
        door = TlsDoor("127.0.0.1", port, lambda: server_context(*files), FakeBroker(), PaperRegistry())

        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}") as caught:
            asyncio.run(door.serve())
        assert f"sport = :{port}" in (caught.value.hint or "")


def test_address_of_another_machine_is_a_configuration_error(authority: PaperAuthority) -> None:
    """A documentation address (RFC 5737) is not this machine's."""
    files = authority.server("localhost")
    door = TlsDoor("192.0.2.1", 0, lambda: server_context(*files), FakeBroker(), PaperRegistry())

    with pytest.raises(ConfigError, match=r"192\.0\.2\.1") as caught:
        asyncio.run(door.serve())
    assert caught.value.hint


def test_a_port_without_a_listener_is_an_unavailable_link(authority: PaperAuthority) -> None:
    """A closed port and an unknown name are LinkUnavailable with a hint."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    context = client_context(*authority.client("web01"))

    with pytest.raises(LinkUnavailable, match=f"127.0.0.1:{port}") as caught:
        asyncio.run(TlsLink("127.0.0.1", port, context=lambda: context).draw(32, DrawClass.FULL))
    assert caught.value.hint


def _openssl(house: House, data: bytes, *options: str) -> bytes:
    certificate, key, ca = house.authority.client("web01")
    command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{house.port}", "-CAfile", ca]
    command += ["-cert", certificate, "-key", key, *options]
    return subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE_S, check=False).stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_itself_is_served_with_our_alpn_and_not_without(authority: PaperAuthority) -> None:
    """A third-party client can draw; without ALPN it fails."""
    data = Hello((1,)).encode() + Draw(32, DrawClass.FULL, request_id=1).encode() + Bye().encode()

    async def run() -> None:
        async with House(authority).open() as house:
            said = await asyncio.to_thread(_openssl, house, data, "-alpn", "drawwell/1")
            assert said.startswith(Welcome(1, "drawwell", "web01").encode())
            assert said.endswith(b"\x01".ljust(25, b"."))
            assert await asyncio.to_thread(_openssl, house, data) == b""
            assert await asyncio.to_thread(_openssl, house, data, "-alpn", "h2") == b""
            assert house.broker.serial == 1

    asyncio.run(run())
