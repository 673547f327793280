"""The store's interface with both engines, SQLite and PostgreSQL.

The long tests repeat all of this with Debian 13's PostgreSQL.
"""

import threading
from dataclasses import replace

import pytest

from drawwell.crypto.tokens import secret_hash
from drawwell.entropy.blocks import DrawClass
from drawwell.fleet.connection import Address
from drawwell.fleet.store import PostgresStore
from drawwell.state.port import Changes
from drawwell.state.rows import CertificateRow, ConsumerRow, InvitationRow, SeedRow
from drawwell.state.store import Store
from drawwell.units import Allowance
from support.postgres import debian_13, require_postgres, server

SECRET = bytes(32)
WEB = ConsumerRow("web01", Allowance(4097, 1.0), None, frozenset(DrawClass), created=1.5)
INVITATION = InvitationRow("id", "web01", secret_hash(SECRET), created=10.0, expires=910.0)
CERTIFICATE = CertificateRow("aa", "web01", "17", not_after=5000.0)


@pytest.fixture(scope="module")
def postgres_of_debian_13():
    require_postgres()
    with debian_13() as root, server(root) as one:
        assert one.sql("SHOW server_version")[0][0].startswith("17.")
        yield one


@pytest.fixture(params=["", "postgres", pytest.param("postgres_of_debian_13", marks=pytest.mark.long)])
def store(request, tmp_path):
    if request.param:
        database = request.getfixturevalue(request.param).database()
        store = PostgresStore(Address(database.broker), "site-a", lambda: Address(database.owner))
    else:
        store = Store(str(tmp_path / "state" / "broker.db"))
    yield store
    store.close()


def some_consumers(store, count: int) -> None:
    for number in range(count):
        row = ConsumerRow(f"c{number:03}", None, None, frozenset(DrawClass), 0.0)
        store.invite(row, InvitationRow(f"i{number}", row.name, secret_hash(SECRET), 10.0, 910.0))
        store.redeem(f"i{number}", SECRET, CertificateRow(f"k{number}", row.name, "1", 1000.0), 20.0)


def test_a_consumer_reads_back(store) -> None:
    """Terms, key, certificate and invitation read back exactly."""
    full = ConsumerRow(
        "web01",
        Allowance(4097, 0.5),
        Allowance(10 << 20, 86400.0),
        frozenset({DrawClass.FULL}),
        created=1.25,
        stream=True,
        ssh_key="ssh-ed25519 AAAA",
    )
    store.invite(full, INVITATION)
    store.redeem("id", SECRET, CERTIFICATE, 20.0, "10.0.0.1:5")

    found = store.find("web01")
    assert (found.row, found.certificates) == (full, {"aa": CERTIFICATE})
    used = replace(INVITATION, status="used", used_at=20.0, used_from="10.0.0.1:5")
    assert store.invitation("id") == used
    assert store.page("", "", 9)[0].invitation == used
    assert store.find("other") is None
    assert store.invitation("other") is None


def test_a_key_has_one_owner(store) -> None:
    """A consumer is found by its certificate's key and by its SSH key."""
    store.invite(replace(WEB, ssh_key="ssh-ed25519 AAAA"), INVITATION)
    store.redeem("id", SECRET, CERTIFICATE, 20.0)

    found = [store.owner_of(key) for key in ("aa", "ssh-ed25519 AAAA", "bb", "")]
    assert found == ["web01", "web01", None, None]


def test_another_key_revokes_all_but_the_kept_one(store) -> None:
    """A consumer that replaces its key has two until the new one is in use."""
    store.invite(WEB, INVITATION)
    store.redeem("id", SECRET, CERTIFICATE, 20.0)
    store.rekey("web01", "aa", CertificateRow("bb", "web01", "18", 6000.0), 30.0)
    both = {spki: row.revoked_at for spki, row in store.find("web01").certificates.items()}
    store.rekey("web01", "bb", None, 40.0)

    assert both == {"aa": None, "bb": None}
    assert store.find("web01").certificates["aa"].revoked_at == 40.0


def test_a_change_of_terms_replaces_them(store) -> None:
    """Other limits and another SSH key replace the old ones."""
    store.put_consumer(WEB)
    other = replace(WEB, rate=None, quota=Allowance(5, 60.0), ssh_key="ssh-ed25519 BBBB")
    store.change_consumer(other, "web01 has new limits")

    assert store.find("web01").row == other


def test_a_seed_is_given_once(store) -> None:
    """A second claim of a seed returns the first one, unless requested again."""
    assert store.claim_seed("vm1", 20.0, again=False) is None
    assert store.claim_seed("vm1", 30.0, again=False) == SeedRow("vm1", 1, 20.0, None)
    store.settle_seed("vm1", 7)
    assert store.claim_seed("vm1", 30.0, again=True) is None
    store.settle_seed("vm1", None)
    assert store.claim_seed("vm1", 40.0, again=False) == SeedRow("vm1", 1, 20.0, 7)
    assert store.claim_seed("vm2", 40.0, again=False) is None
    store.settle_seed("vm2", None)
    assert store.claim_seed("vm2", 50.0, again=False) is None


def test_the_last_invitation_ends(store) -> None:
    """The latest end counts, unless it comes from a clock that was ahead."""
    assert store.last_invitation_ends(10.0) is None
    store.invite(WEB, INVITATION)
    store.invite(replace(WEB, name="db"), InvitationRow("ahead", "db", secret_hash(SECRET), 9e9, 9e9 + 900))

    assert store.last_invitation_ends(10.0) == 910.0
    store.expire_invitations(10.0)
    assert [store.invitation(each).status for each in ("id", "ahead")] == ["pending", "expired"]


def test_no_change_is_read_twice(store) -> None:
    """After the last change the list is empty."""
    store.invite(WEB, INVITATION)
    last = store.changes(0).last

    assert store.changes(last) == Changes(last)


def test_an_invitation_is_used_once(store) -> None:
    """A second use of an invitation changes nothing."""
    store.invite(WEB, INVITATION)

    uses = [
        store.redeem("id", SECRET, CertificateRow(spki, "web01", "1", 1.0), 20.0) for spki in ("aa", "bb")
    ]

    assert uses == [True, False]
    assert list(store.find("web01").certificates) == ["aa"]


def test_a_wrong_secret_redeems_nothing(store) -> None:
    """The engine compares the secret itself."""
    store.invite(WEB, INVITATION)
    assert not store.redeem("id", b"another", CERTIFICATE, 20.0)
    assert store.redeem("id", SECRET, CERTIFICATE, 20.0)


def test_of_many_threads_one_uses_an_invitation(store) -> None:
    """If threads compete for one invitation, exactly one succeeds."""
    store.invite(WEB, INVITATION)
    wins: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda n=n: wins.append(
                store.redeem("id", SECRET, CertificateRow(f"{n}", "web01", "1", 1.0), 20.0)
            )
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(wins) == [False] * 7 + [True]


def test_joining_again_revokes_the_earlier_certificate(store) -> None:
    """A consumer that joins again has one valid certificate: the newest."""
    store.invite(WEB, INVITATION)
    store.redeem("id", SECRET, CERTIFICATE, 20.0)
    store.invite(WEB, InvitationRow("id2", "web01", secret_hash(SECRET), 30.0, 930.0))
    store.redeem("id2", SECRET, CertificateRow("bb", "web01", "18", 5000.0), 40.0)

    assert {spki: row.revoked_at for spki, row in store.find("web01").certificates.items()} == {
        "aa": 40.0,
        "bb": None,
    }


def test_a_new_invitation_voids_the_pending_one(store) -> None:
    """At most one invitation for a consumer is pending."""
    store.invite(WEB, INVITATION)
    store.invite(WEB, InvitationRow("id2", "web01", secret_hash(SECRET), 30.0, 930.0))

    assert [store.invitation(each).status for each in ("id", "id2")] == ["void", "pending"]


def test_revoking_reaches_certificates_and_invitations(store) -> None:
    """A revoked consumer has no certificate or invitation, and cannot renew."""
    store.invite(WEB, INVITATION)
    store.redeem("id", SECRET, CERTIFICATE, 20.0)
    store.invite(WEB, InvitationRow("id2", "web01", secret_hash(SECRET), 30.0, 930.0))

    store.revoke("web01", 50.0)

    assert store.find("web01").row.revoked_at == 50.0
    assert store.find("web01").certificates["aa"].revoked_at == 50.0
    assert store.invitation("id2").status == "void"
    assert not store.renew(CertificateRow("aa", "web01", "19", 9000.0))


def test_an_expired_invitation_stays_expired(store) -> None:
    """An invitation that expired stays so when the clock is set back."""
    store.invite(WEB, INVITATION)
    store.expire_invitations(910.0)

    assert store.invitation("id").status == "expired"
    assert not store.redeem("id", SECRET, CERTIFICATE, 20.0)


def test_the_last_wrong_try_makes_an_invitation_void(store) -> None:
    """The wrong try that reaches the limit makes an invitation void."""
    store.invite(WEB, INVITATION)
    states = []
    for _ in range(5):
        store.count_wrong_try("id", 5)
        states.append(store.invitation("id").status)

    assert states == ["pending"] * 4 + ["void"]


def test_only_a_known_key_of_that_consumer_renews(store) -> None:
    """A renewal is for a registered key of that consumer alone."""
    store.invite(WEB, INVITATION)
    store.redeem("id", SECRET, CERTIFICATE, 20.0)

    newer = CertificateRow("aa", "web01", "18", 9000.0)

    assert store.renew(newer)
    assert not store.renew(CertificateRow("bb", "web01", "18", 9000.0))
    assert not store.renew(CertificateRow("aa", "db", "18", 9000.0))
    assert store.find("web01").certificates == {"aa": replace(newer, earlier_end=CERTIFICATE.not_after)}


def test_consumers_are_listed_in_pages(store) -> None:
    """A page has the next names, with certificate and last invitation."""
    some_consumers(store, 30)
    assert [each.row.name for each in store.page("", "c007", 3)] == ["c008", "c009", "c010"]
    assert [each.row.name for each in store.page("c?1*", "", 99)] == [f"c01{n}" for n in range(10)]
    assert [each.row.name for each in store.page("c*9", "c009", 99)] == ["c019", "c029"]
    assert [each.row.name for each in store.page("c020", "", 99)] == ["c020"]
    assert store.page("", "c029", 3) == []
    (listed,) = store.page("c020", "", 1)
    assert (listed.certificate_expires, listed.invitation.id) == (1000.0, "i20")
    assert store.count() == 30
    store.revoke("c020", 50.0)
    assert store.count() == 29
    assert store.page("c020", "", 1)[0].certificate_expires is None
