"""Wrong and corrected clocks, at one machine or at both."""

import _ssl
import asyncio
import contextlib
import ctypes
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from drawwell.crypto import pki
from drawwell.crypto.tokens import parse_token
from drawwell.doors.tls import TlsDoor
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, PermissionRefused
from drawwell.host import clock
from drawwell.host.clock import WallClock
from drawwell.links.identity import LinkIdentity, Staging
from drawwell.links.renewal import renew_if_due
from drawwell.links.tls import TlsLink
from drawwell.state.store import Store
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.contexts import client_context, server_context
from drawwell.wire.enrolment import JoinReply, JoinRequest
from support.certificates import own_authority
from support.fake_broker import FakeBroker
from support.serving import serving

DAY_S = 86_400.0
NAMES = ("127.0.0.1",)
OFFSETS = {
    "-2 h": -7200.0,
    "-60 d": -60 * DAY_S,
    "+20 d": 20 * DAY_S,
    "+70 d": 70 * DAY_S,
    "+400 d": 400 * DAY_S,
}


class Renewing(FakeBroker):
    """A broker that answers renewals."""

    admin: ConsumerAdmin

    async def call(self, peer: Any, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        return self.admin.renewals.renew("web01", args["csr"])


class Pair:
    """A broker and a joined machine, each with an adjustable clock."""

    def __init__(self, folder: Path) -> None:
        self.broker_s = self.consumer_s = -DAY_S
        self.broker = Renewing()
        self.store = Store(str(folder / "state" / "broker.db"))
        self.authority = own_authority(str(folder / "state" / "pki"), self.now())
        self.registry = InvitedRegistry(self.store, self.now)
        site = BrokerDetails("well", "127.0.0.1:1", ("127.0.0.1:2",))
        self.admin = self.broker.admin = ConsumerAdmin(
            self.store, self.registry, self.authority, site, clock=self.now
        )
        self.authority.server_files(NAMES, self.now())
        self.identity = self._join(folder / "joined")
        self.set(0.0, 0.0)

    def set(self, broker_s: float, consumer_s: float) -> None:
        """Set both clocks, relative to the right time."""
        self.broker_s, self.consumer_s = broker_s, consumer_s

    def now(self) -> float:
        """Return the broker's time."""
        return time.time() + self.broker_s

    def outcome(self) -> str:
        """Draw, after one renewal if needed."""
        return asyncio.run(self._outcome())

    async def _outcome(self) -> str:
        certificate, key = self.authority.server_files(NAMES, self.now())
        context = server_context(certificate, key, self.authority.authorities, renews=True)
        door = TlsDoor("127.0.0.1", 0, lambda: context, self.broker, self.registry, clock=self.now)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            port = int(door.address.rpartition(":")[2])
            async with contextlib.aclosing(self._link(port)) as link:
                if await drew(link):
                    return "draws"
                with contextlib.suppress(AuthenticationFailed):
                    await renew_if_due(link, self.identity, time.time(), force=True)
            async with contextlib.aclosing(self._link(port)) as link:
                return "renews" if await drew(link) else "waits"

    def _link(self, port: int) -> TlsLink:
        identity = self.identity

        def context() -> ssl.SSLContext:
            made = client_context(identity.certificate_path, identity.key_path, identity.ca_path)
            judge_by(made, time.time() + self.consumer_s)
            return made

        return TlsLink("127.0.0.1", port, context=context)

    def _join(self, directory: Path) -> LinkIdentity:
        staging = Staging(str(directory), force=False)
        token = parse_token(self.admin.invite("web01")["token"])
        reply = self.admin.redeem(JoinRequest(token.invitation, token.secret, staging.csr_pem.decode()))
        assert isinstance(reply, JoinReply)
        return staging.finish(reply)


async def drew(link: TlsLink) -> bool:
    """Draw; check that the hint of a refusal is about clocks."""
    hint = "none"
    try:
        return len(await link.draw(8, DrawClass.FULL)) == 8
    except (AuthenticationFailed, PermissionRefused) as error:
        hint = error.hint or hint
    assert "clock" in hint
    return False


def judge_by(context: ssl.SSLContext, now: float) -> None:
    """Make OpenSSL check dates against another clock, unlike ssl."""
    openssl = ctypes.CDLL(_ssl.__file__)
    openssl.SSL_CTX_get0_param.restype = ctypes.c_void_p
    first_field = id(context) + object.__basicsize__
    pointer = ctypes.c_void_p.from_address(first_field)
    parameters = ctypes.c_void_p(openssl.SSL_CTX_get0_param(pointer))
    openssl.X509_VERIFY_PARAM_set_time(parameters, ctypes.c_long(int(now)))


DRAWS, RENEWS, WAITS = "draws", "renews", "waits"
TABLE = {
    # which clock, by how much: results while wrong, and after the correction
    ("broker", "-2 h"): (DRAWS, DRAWS),
    ("broker", "-60 d"): (RENEWS, RENEWS),
    ("broker", "+20 d"): (RENEWS, RENEWS),
    ("broker", "+70 d"): (WAITS, DRAWS),
    ("broker", "+400 d"): (WAITS, DRAWS),
    ("consumer", "-2 h"): (DRAWS, DRAWS),
    ("consumer", "-60 d"): (WAITS, DRAWS),
    ("consumer", "+20 d"): (DRAWS, DRAWS),
    ("consumer", "+70 d"): (DRAWS, DRAWS),
    ("consumer", "+400 d"): (WAITS, DRAWS),
    ("both", "-2 h"): (DRAWS, DRAWS),
    ("both", "-60 d"): (RENEWS, RENEWS),
    ("both", "+20 d"): (RENEWS, RENEWS),
    ("both", "+70 d"): (WAITS, DRAWS),
    ("both", "+400 d"): (WAITS, DRAWS),
}


@pytest.mark.parametrize(("whose", "offset"), TABLE)
def test_a_clock_that_was_wrong_locks_no_machine_out(tmp_path: Path, whose: str, offset: str) -> None:
    """After the correction it can draw, after at most one renewal."""
    wrong_s = OFFSETS[offset]
    pair = Pair(tmp_path)
    pair.set(wrong_s * (whose != "consumer"), wrong_s * (whose != "broker"))
    while_wrong = pair.outcome()
    pair.set(0.0, 0.0)
    assert (while_wrong, pair.outcome()) == TABLE[whose, offset]
    assert pair.outcome() == DRAWS
    pair.store.close()


def test_an_authority_made_ahead_of_time_is_certified_again(tmp_path: Path) -> None:
    """The CA of an older release keeps key and name and gets current dates."""
    ca = own_authority(str(tmp_path), time.time() + pki.CA_BACKDATE_S + DAY_S)
    again = own_authority(str(tmp_path), time.time())
    assert again.spki_sha256 == ca.spki_sha256
    certificate = Path(again.server_files(NAMES, time.time())[0]).read_bytes()
    again.refresh()
    assert pki.read_certificate(again.public.roots).not_before < time.time()
    leaf, intermediate, root = pki.pem_blocks(certificate)
    assert root == again.public.roots
    assert pki.is_issued_by(leaf, intermediate)
    assert pki.is_issued_by(intermediate, root)


def test_an_invitation_made_ahead_of_time_has_expired(tmp_path: Path) -> None:
    """An invitation from a clock that was ahead is not valid until that time."""
    pair = Pair(tmp_path)
    pair.set(70 * DAY_S, 0.0)
    pair.admin.invite("web02")
    pair.set(0.0, 0.0)
    assert pair.admin.open_until() is None
    pair.store.close()


class Wall:
    """An adjustable wall clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset_s = 0.0
        real = time.time
        monkeypatch.setattr(clock.time, "time", lambda: real() + self.offset_s)


def test_jumps_of_the_clock_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jumps forward, back, and back since an earlier run are reported."""
    wall = Wall(monkeypatch)
    running = WallClock()
    assert running.note() == ""
    wall.offset_s = 70 * DAY_S
    running()
    assert running.note() == "the clock was set forward by 70 days while the broker ran"
    wall.offset_s = 0.0
    assert running.note().startswith("the clock was set back by 70 days")
    assert running() - running.dates() > 69 * DAY_S
    assert (
        WallClock(running()).note()
        == "the clock is 70 days behind the time of an earlier run; trusting the clock"
    )
