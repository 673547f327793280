"""A machine with a clock in 1970: only dates are not checked."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from drawwell.authorisation import Principal
from drawwell.config.values import HostPort
from drawwell.crypto import pki
from drawwell.doors.tls import TlsDoor
from drawwell.enrolment.registry import OwnPkiRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed
from drawwell.host import clock
from drawwell.host.clock import WallClock, clock_is_set, clock_remark
from drawwell.roles.make_links_and_sinks import tls_link
from drawwell.state.files import replace_file
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.contexts import server_context
from support.certificates import server_pair
from support.fake_broker import FakeBroker
from support.principals import consumer
from support.serving import serving

YEAR_S = 365 * 86400.0


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a release from the future, later than the clock's time."""
    monkeypatch.setattr(clock, "BUILD_DATE", time.time() + YEAR_S / 2)


class AnyConsumer:
    """A registry that admits every peer that OpenSSL admits."""

    async def identify(self, certificate_der: bytes) -> Principal:
        return consumer("web01", "x")

    def check(self, principal: Principal) -> Principal:
        return principal


class Future:
    """A broker and a consumer with certificates that start in one year."""

    def __init__(self, folder: Path) -> None:
        later = time.time() + YEAR_S
        self.folder = folder
        ca = pki.new_ca("well", later)
        server = server_pair(ca, ("127.0.0.1",), later)
        key, request = pki.new_key_and_csr("web01")
        self.client = pki.issue_client(ca, request, "web01", later, pki.CLIENT_LIFETIME_S)
        files = {
            "ca.pem": ca.certificate_pem, "cert.pem": self.client, "key.pem": key,
            "server.pem": server.certificate_pem, "server.key": server.key_pem,
            "broker-ca.pem": ca.certificate_pem,
        }  # fmt: skip
        for name, data in files.items():
            replace_file(str(folder / name), data)

    def drawn(self) -> str:
        """Draw once over TLS; return the number of bytes or the error."""
        names = (str(self.folder / name) for name in ("server.pem", "server.key", "broker-ca.pem"))
        context = server_context(*names, renews=True)
        door = TlsDoor("127.0.0.1", 0, lambda: context, FakeBroker(), AnyConsumer())

        async def run() -> str:
            async with serving(door), asyncio.timeout(DEADLINE_S):
                link = tls_link(str(self.folder), HostPort("127.0.0.1", int(door.address.rpartition(":")[2])))
                try:
                    return f"{len(await link.draw(8, DrawClass.FULL))} bytes"
                except AuthenticationFailed as error:
                    return str(error)
                finally:
                    await link.aclose()

        return asyncio.run(run())


def test_a_clock_that_was_set_judges_dates(tmp_path: Path) -> None:
    """A broker with a certificate that is not valid yet is refused."""
    assert clock_is_set()
    assert "not yet valid" in Future(tmp_path).drawn()


def test_a_clock_that_was_never_set_judges_no_dates(tmp_path: Path, unset: None) -> None:
    """The same broker serves draws, and the status reports the reason."""
    assert Future(tmp_path).drawn() == "8 bytes"
    assert "never set" in clock_remark()


def test_whatever_the_clock_the_pinned_authority_counts(tmp_path: Path, unset: None) -> None:
    """A machine with an unset clock also refuses a broker of another CA."""
    future = Future(tmp_path)
    (tmp_path / "ca.pem").write_bytes(pki.new_ca("another", time.time()).certificate_pem)
    assert "not trusted" in future.drawn()


def test_a_broker_without_a_clock_lets_in_who_is_not_valid_yet(tmp_path: Path, unset: None) -> None:
    """A certificate with a future date is accepted if the clock is behind."""
    registry = OwnPkiRegistry("uri", {"web01": "web01"})
    assert asyncio.run(registry.identify(der(Future(tmp_path)))).name == "web01"


def test_a_broker_with_a_clock_does_not(tmp_path: Path) -> None:
    """If the clock can be right, such a certificate is refused."""
    registry = OwnPkiRegistry("uri", {"web01": "web01"})
    with pytest.raises(AuthenticationFailed, match="this machine's clock shows"):
        asyncio.run(registry.identify(der(Future(tmp_path))))


def test_time_starts_no_earlier_than_the_program(unset: None) -> None:
    """An unset clock counts as the release date or the last run, if later."""
    assert WallClock()() >= clock.BUILD_DATE
    seen = clock.BUILD_DATE + YEAR_S
    assert WallClock(seen)() >= seen


def der(future: Future) -> bytes:
    """Return the consumer's certificate as received in a handshake."""
    return ssl.PEM_cert_to_DER_cert(future.client.decode())
