"""Brokers with a common root: invited, certified, renewed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import KeyList
from drawwell.enrolment.fleet_keys import FleetKeys
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import AuthenticationFailed, PermissionRefused, UsageError
from unit.enrolment.test_key_ring import CSR, HEAD, NOW, openssl_accepts

HOUR_S = 3600.0


class Machine:
    """A broker's keys on disk."""

    def __init__(self, folder: Path, name: str, now: float = NOW) -> None:
        self.name, self.path = name, folder / name
        self.ring = KeyRing(str(self.path), name, now)
        self.fleet = FleetKeys(self.ring, str(self.path), name)


@pytest.fixture
def first(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path, "site-a")
    machine.fleet.found("example")
    return machine


@pytest.fixture
def second(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "site-b")


def admitted(first: Machine, second: Machine, invitation: dict[str, Any], now: float = NOW) -> dict[str, str]:
    csr, receipt_key = second.fleet.request()
    secret = bytes.fromhex(invitation["secret"])
    return first.fleet.admit(invitation["invitation"], secret, csr, receipt_key, now)


def join(first: Machine, second: Machine) -> None:
    second.fleet.adopt(admitted(first, second, first.fleet.invite("site-b", HOUR_S, NOW)))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_member_certifies_below_the_root_of_the_fleet(
    tmp_path: Path, first: Machine, second: Machine
) -> None:
    """OpenSSL verifies a member's server certificate, also after a restart."""
    root = first.ring.public().roots
    assert not openssl_accepts(tmp_path, root, second.ring.serve(CSR, ["b"], NOW))
    join(first, second)
    again = Machine(tmp_path, "site-b")
    for member in (second, again):
        assert openssl_accepts(tmp_path, root, member.ring.serve(CSR, ["b"], NOW))
        assert member.ring.public().roots == root
    assert not (second.path / "root-key.pem").exists()
    shown = (second.path / "intermediate.pem").read_bytes()
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-text"], input=shown, capture_output=True, check=True
    ).stdout.decode()
    assert "CA:TRUE, pathlen:0" in text
    assert pki.read_certificate(shown).not_after == NOW + 90 * pki.DAY_S


def test_one_list_has_the_receipt_keys_of_all(first: Machine, second: Machine) -> None:
    """Each broker presents its own key first; a rotation ends only that key."""
    join(first, second)
    a, b = first.ring.public(), second.ring.public()
    assert a.key_list == b.key_list
    assert a.receipt_key != b.receipt_key
    first.ring.rotate("receipts", NOW + 60)
    second.fleet.follow(first.ring.public().key_list)
    listed = KeyList.read(second.ring.public().key_list, a.roots).receipt_keys
    assert {key.public_key.encode(): key.until for key in listed} == {
        first.ring.public().receipt_key: 0, a.receipt_key: NOW + 60, b.receipt_key: 0,
    }  # fmt: skip
    assert len(second.ring.sign([HEAD])) == 1


def test_a_member_is_certified_again_before_its_end(first: Machine, second: Machine) -> None:
    """A member requests a certificate after 60 days; the old one stays valid."""
    join(first, second)
    later = NOW + 61 * pki.DAY_S
    assert second.fleet.due(NOW) == ""
    csr = second.fleet.due(later)
    assert second.ring.serve(CSR, ["b"], later)
    second.fleet.take(first.fleet.renew("site-b", csr.encode(), later).encode())
    assert second.fleet.due(later) == ""
    assert second.ring.describe(later)["intermediate_expires"] == later + 90 * pki.DAY_S
    assert first.fleet.due(later) == ""


def test_only_the_key_that_joined_is_certified_again(tmp_path: Path, first: Machine, second: Machine) -> None:
    """A broker cannot request a certificate for another broker."""
    join(first, second)
    for name, machine in (("site-b", Machine(tmp_path, "thief")), ("site-c", second)):
        with pytest.raises(PermissionRefused):
            first.fleet.renew(name, machine.fleet.request()[0], NOW)


def test_an_answer_for_another_key_changes_nothing(tmp_path: Path, first: Machine, second: Machine) -> None:
    """The broker keeps its keys."""
    other = Machine(tmp_path, "site-c")
    answer = admitted(first, other, first.fleet.invite("site-c", HOUR_S, NOW))
    before = second.ring.public()
    with pytest.raises(AuthenticationFailed):
        second.fleet.adopt(answer)
    assert second.ring.public() == before


def test_an_invitation_is_for_one_key(tmp_path: Path, first: Machine, second: Machine) -> None:
    """The machine that used it can repeat the request; another cannot."""
    invitation = first.fleet.invite("site-b", HOUR_S, NOW)
    assert admitted(first, second, invitation)["broker"] == "site-b"
    second.fleet.adopt(admitted(first, second, invitation))
    with pytest.raises(PermissionRefused, match="used"):
        admitted(first, Machine(tmp_path, "thief"), invitation)


@pytest.mark.parametrize(
    ("change", "later_s"),
    [({"secret": "00" * 32}, 0), ({"invitation": "AAAAAAAAAAA"}, 0), ({}, HOUR_S)],
    ids=["secret", "invitation", "expired"],
)
def test_without_the_right_invitation_nothing_is_certified(
    first: Machine, second: Machine, change: dict[str, str], later_s: float
) -> None:
    """A wrong secret, an unknown or an expired invitation is refused."""
    invitation = first.fleet.invite("site-b", HOUR_S, NOW) | change
    with pytest.raises(PermissionRefused):
        admitted(first, second, invitation, NOW + later_s)
    assert json.loads((first.path / "fleet.json").read_text())["brokers"] == {}


def test_a_second_invitation_makes_the_first_one_void(first: Machine, second: Machine) -> None:
    """Each broker has at most one invitation."""
    earlier = first.fleet.invite("site-b", HOUR_S, NOW)
    assert admitted(first, second, first.fleet.invite("site-b", HOUR_S, NOW))
    with pytest.raises(PermissionRefused):
        admitted(first, second, earlier)


def test_without_the_roots_key_the_next_line_is_named(first: Machine, second: Machine) -> None:
    """Inviting, admitting and renewing need the root key, if exported."""
    invitation = first.fleet.invite("site-b", HOUR_S, NOW)
    key = first.ring.export_root()
    first.ring.forget_root()
    for ask in (
        lambda: first.fleet.found("example"),
        lambda: first.fleet.invite("site-b", HOUR_S, NOW),
        lambda: admitted(first, second, invitation),
    ):
        with pytest.raises(UsageError) as refused:
            ask()
        assert "pki import-root" in str(refused.value.hint)
    first.ring.import_root(key, NOW)
    assert admitted(first, second, invitation)


def test_who_may_not_invite(first: Machine, second: Machine) -> None:
    """A broker without a fleet, a member, and a broker with its own name."""
    with pytest.raises(UsageError, match="does not have the root of a fleet"):
        second.fleet.invite("site-c", HOUR_S, NOW)
    join(first, second)
    with pytest.raises(UsageError, match="does not have the root of a fleet"):
        second.fleet.invite("site-c", HOUR_S, NOW)
    with pytest.raises(UsageError, match="own name"):
        first.fleet.invite("site-a", HOUR_S, NOW)
    with pytest.raises(UsageError, match="7 days"):
        first.fleet.invite("site-b", 8 * pki.DAY_S, NOW)
    with pytest.raises(UsageError, match="already in the fleet 'example'"):
        first.fleet.found("other")


def receipt_ends(machine: Machine) -> dict[bytes, int]:
    """Return the end of each listed receipt key, or 0."""
    public = machine.ring.public()
    return {
        key.public_key.encode(): key.until for key in KeyList.read(public.key_list, public.roots).receipt_keys
    }


def test_a_broker_gets_other_keys_by_joining_again(tmp_path: Path, first: Machine, second: Machine) -> None:
    """The earlier CA is no longer certified, and its receipt key has ended."""
    join(first, second)
    csr, receipt_key = second.fleet.request()
    second.path.rename(tmp_path / "moved")
    again = Machine(tmp_path, "site-b")
    invitation = first.fleet.invite("site-b", HOUR_S, NOW + 60)
    again.fleet.adopt(admitted(first, again, invitation, NOW + 60))
    with pytest.raises(PermissionRefused):
        first.fleet.renew("site-b", csr, NOW + 60)
    assert first.fleet.renew("site-b", again.fleet.request()[0], NOW + 60)
    ends = receipt_ends(first)
    assert (ends[receipt_key], ends[again.ring.public().receipt_key]) == (NOW + 60, 0)
    assert receipt_ends(again) == ends
    assert again.ring.serve(CSR, ["b"], NOW + 60)


def test_a_broker_that_was_removed_is_certified_no_more(first: Machine, second: Machine) -> None:
    """A removed broker's receipt key has ended, and its invitation is void.

    By another invitation it is back.
    """
    invitation = first.fleet.invite("site-b", HOUR_S, NOW)
    second.fleet.adopt(admitted(first, second, invitation))
    csr, receipt_key = second.fleet.request()
    assert first.fleet.describe(NOW)["brokers"] == ["site-b"]
    first.fleet.remove("site-b", NOW + 60)
    assert first.fleet.describe(NOW)["brokers"] == []
    assert receipt_ends(first)[receipt_key] == NOW + 60
    for refused in (
        lambda: first.fleet.renew("site-b", csr, NOW),
        lambda: admitted(first, second, invitation),
    ):
        with pytest.raises(PermissionRefused):
            refused()
    join(first, second)
    assert receipt_ends(first)[receipt_key] == 0


def test_only_the_root_removes(first: Machine, second: Machine) -> None:
    """A member cannot remove a broker, and the root's key is needed."""
    join(first, second)
    with pytest.raises(UsageError, match="does not have the root of a fleet"):
        second.fleet.remove("site-a", NOW)
    first.ring.forget_root()
    with pytest.raises(UsageError, match="not on this machine"):
        first.fleet.remove("site-b", NOW)
    assert first.fleet.describe(NOW)["brokers"] == ["site-b"]
