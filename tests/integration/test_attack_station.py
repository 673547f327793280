"""Attacks on a complete broker: reserved names and hostile arguments."""

import asyncio
import contextlib
import resource

import pytest

from drawwell.doors.door import Limits
from drawwell.errors import AuthenticationFailed, UsageError
from drawwell.links.tls import TlsLink
from drawwell.wire.contexts import client_context
from support.certificates import PaperAuthority
from support.station import Site, running


@pytest.mark.parametrize("name", ["local", "kernel"])
def test_no_certificate_makes_a_stranger_the_brokers_own_user(folder, name) -> None:
    """With your own PKI, certificates for `local` or `kernel` are refused."""
    authority = PaperAuthority(folder)
    site = Site(folder)
    certificate, key, ca = authority.server(site.address)
    site.write(f'[pki]\nca = "{ca}"\ncertificate = "{certificate}"\nkey = "{key}"\n[kernel]\nfeed = false')

    async def run() -> None:
        async with running(site):
            files = authority.client(name)
            link = TlsLink(site.address, 55000, context=lambda: client_context(*files))
            with pytest.raises(AuthenticationFailed):
                await link.welcome()

    asyncio.run(run())


@pytest.mark.parametrize("name", ["local", "kernel"])
def test_a_name_that_the_broker_uses_itself_is_not_invited(folder, name) -> None:
    """`local` and `kernel` are reserved, even before their first draw."""
    site = Site(folder)

    async def run() -> None:
        async with running(site):
            with pytest.raises(UsageError):
                await site.ask("consumer.invite", {"name": name})

    asyncio.run(run())


@pytest.mark.parametrize("rate", ["1B/0.0000001ms", "1B/999999999999999weeks", "999999999999999GiB/1ms"])
def test_no_allowance_ends_the_broker_or_keeps_it_from_starting(folder, rate) -> None:
    """With any rate, the broker continues and can start again."""
    site = Site(folder)

    async def ask(verb: str, arguments: dict) -> None:
        with contextlib.suppress(UsageError):
            await site.ask(verb, arguments)

    async def run() -> None:
        async with running(site):
            await site.ask("consumer.invite", {"name": "web01"})
            await ask("consumer.quota", {"name": "web01", "rate": rate})
            await ask("consumer.quota", {"name": "web01", "quota": rate})
            assert await site.ask("status")
            await site.ask("consumer.list")
        async with running(site):
            assert await site.ask("status")

    asyncio.run(run())


def test_peers_cannot_use_up_the_brokers_descriptors(folder) -> None:
    """The broker raises a soft limit of 1024 for all sessions and devices."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:

        async def run() -> int:
            async with running(Site(folder)):
                return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

        wanted = 4 * (Limits().max_sessions if before[1] < 0 else min(before[1] // 4, Limits().max_sessions))
        assert asyncio.run(run()) >= wanted
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
