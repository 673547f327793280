"""Consumers admitted by pattern, with certificates of your own CA."""

import asyncio
from pathlib import Path

import pytest

from drawwell.cli.restore import _quotas
from drawwell.config.load import load
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    AuthenticationFailed,
    DrawRefused,
    LinkUnavailable,
    PermissionRefused,
    QuotaExceeded,
)
from drawwell.links.tls import TlsLink
from drawwell.simulator.pty import PtyDevice
from drawwell.state.store import Store
from drawwell.wire.contexts import client_context
from support.certificates import PaperAuthority
from support.station import Site, running

A, B = "spiffe://td/ns/a/sa/link", "spiffe://td/ns/b/sa/link"
FIRST, SECOND = "spiffe://td/ns/*/sa/link", "spiffe://td/ns/*/sa/*"
PATTERNS = (
    f'[[consumer]]\nmatch = "{FIRST}"\nclass = "drbg"\nquota = "1KiB/day"\n[[consumer]]\nmatch = "{SECOND}"\n'
)


class Cluster:
    """A broker that admits a CA's workloads by pattern."""

    def __init__(self, folder: Path) -> None:
        self.authority = PaperAuthority(folder)
        self.site = Site(folder)
        certificate, key, ca = self.authority.server("well", self.site.address)
        self.pki = f'[pki]\nca = "{ca}"\ncertificate = "{certificate}"\nkey = "{key}"\n'
        self.site.write(self.pki + PATTERNS)

    async def draw(self, n_bytes: int, *uris: str, draw_class: DrawClass = DrawClass.DRBG) -> None:
        """Connect with a new certificate for these URIs, and draw once."""
        files = self.authority.workload(*uris)
        link = TlsLink(self.site.address, 55000, context=lambda: client_context(*files))
        try:
            assert len(await link.draw(n_bytes, draw_class)) == n_bytes
        finally:
            await link.aclose()

    async def accounts(self) -> dict[str, str]:
        """Return the quota of each consumer that has drawn."""
        status = await self.site.ask("status")
        return {each["name"]: each["quota"] for each in status["consumers"] if each["draws"]}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Return a broker with two patterns without starting it."""
    return Cluster(tmp_path)


def serve(cluster: Cluster, scenario) -> None:
    """Run the scenario with the broker."""

    async def run() -> None:
        async with PtyDevice(cluster.site.folder / "stick", rate=0), running(cluster.site) as process:
            await cluster.site.until_healthy(share=0.1)
            await scenario(process)

    asyncio.run(run())


def test_each_identity_has_a_quota_of_its_own(cluster: Cluster) -> None:
    """A workload's draws do not affect another workload's quota."""

    async def scenario(_process) -> None:
        await cluster.draw(1000, A)
        with pytest.raises(QuotaExceeded):
            await cluster.draw(100, A)
        await cluster.draw(1000, B)
        assert await cluster.accounts() == {A: "1KiB/day", B: "1KiB/day"}

    serve(cluster, scenario)


def test_the_first_pattern_that_matches_gives_the_rights(cluster: Cluster) -> None:
    """Both patterns match, and the first one allows only class drbg."""

    async def scenario(_process) -> None:
        with pytest.raises(DrawRefused, match="class full"):
            await cluster.draw(16, A, draw_class=DrawClass.FULL)
        await cluster.draw(16, "spiffe://td/ns/a/sa/other", draw_class=DrawClass.FULL)

    serve(cluster, scenario)


def test_a_name_goes_before_a_pattern(cluster: Cluster) -> None:
    """An identity with its own table has that table's terms."""
    cluster.site.write(f'{cluster.pki}{PATTERNS}[[consumer]]\nname = "{A}"\nquota = "4KiB/day"\n')

    async def scenario(_process) -> None:
        await cluster.draw(1100, A)
        assert await cluster.accounts() == {A: "4KiB/day"}

    serve(cluster, scenario)


@pytest.mark.parametrize("uris", [("spiffe://other/ns/a/sa/link",), (A, B)], ids=["none", "two"])
def test_a_certificate_must_name_one_consumer(cluster: Cluster, uris: tuple[str, ...]) -> None:
    """A certificate without, or with two, matching identities is refused."""

    async def scenario(_process) -> None:
        with pytest.raises(AuthenticationFailed):
            await cluster.draw(16, *uris)

    serve(cluster, scenario)


def test_a_configuration_read_again_changes_what_matches(cluster: Cluster) -> None:
    """An open session follows its pattern's quota, and ends with the pattern."""

    async def scenario(process) -> None:
        files = cluster.authority.workload(A)
        link = TlsLink(cluster.site.address, 55000, context=lambda: client_context(*files))
        await link.draw(1000, DrawClass.DRBG)
        cluster.site.write(cluster.pki + PATTERNS.replace("1KiB", "2KiB"))
        await process.reload()
        await link.draw(1000, DrawClass.DRBG)
        cluster.site.write(cluster.pki)
        await process.reload()
        with pytest.raises((PermissionRefused, LinkUnavailable, AuthenticationFailed)):
            await link.draw(16, DrawClass.DRBG)
        await link.aclose()

    serve(cluster, scenario)


def test_what_was_spent_outlives_the_broker(cluster: Cluster) -> None:
    """After a restart or a restore, reserved bytes count as spent."""

    async def spend(_process) -> None:
        await cluster.draw(1000, A)

    async def again(_process) -> None:
        with pytest.raises(QuotaExceeded):
            await cluster.draw(100, A)

    serve(cluster, spend)
    serve(cluster, again)
    store = Store(str(cluster.site.folder / "state" / "broker.db"))
    quotas = _quotas(load(str(cluster.site.path)), store)
    store.close()
    assert str(quotas[A]) == "1KiB/day"


def test_an_account_that_is_not_used_is_closed_without_a_gift(cluster: Cluster) -> None:
    """A closed account is reopened with the same spent amount."""

    async def scenario(process) -> None:
        await cluster.draw(1000, A)
        await cluster.draw(16, B)
        book = process.station.broker.book
        book.close(lambda name: name == A, seeded_before=float("inf"), most=10)
        assert A not in book.accounts
        with pytest.raises(QuotaExceeded):
            await cluster.draw(100, A)
        book.close(lambda name: name in {A, B}, seeded_before=0.0, most=1)
        assert len(book.accounts.keys() & {A, B}) == 1

    serve(cluster, scenario)
