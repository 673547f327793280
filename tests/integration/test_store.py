"""state/store.py on a real file system: what was written is there, whatever happened since."""

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.quota import QuotaState
from drawwell.errors import PermissionRefused, StateUnavailable
from drawwell.state.rows import CertificateRow, ConsumerRow, InvitationRow
from drawwell.state.schema import MIGRATIONS
from drawwell.state.store import Store
from drawwell.units import Allowance

WEB = ConsumerRow("web01", Allowance(4097, 1.0), None, frozenset(DrawClass), created=1.5)
INVITATION = InvitationRow("id", "web01", bytes(32), created=10.0, expires=910.0)
CERTIFICATE = CertificateRow("aa", "web01", "17", not_after=5000.0)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state" / "broker.db")


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


def run_python(code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_everything_reads_back_after_reopening(path) -> None:
    """Consumers, invitations, certificates and quota states read back exactly from a new opening."""
    states = {"web01": QuotaState(3, 0.1, 12345678901234567890), "db": QuotaState()}
    store = Store(path)
    store.invite(WEB, INVITATION)
    store.redeem("id", CERTIFICATE, 20.0)
    store.lease(states)
    store.close()

    store = Store(path)
    read = store.consumers(), store.invitation("id"), store.certificates("web01")
    leased = {name: store.leased(name) for name in states}
    store.close()

    used = InvitationRow("id", "web01", bytes(32), 10.0, 910.0, "used", 20.0)
    assert read == ({"web01": WEB}, used, {"aa": CERTIFICATE})
    assert leased == states


def test_only_the_owner_may_read_it(path, store) -> None:
    """The state file has mode 0600 and its directory 0700, and so has everything SQLite puts beside it."""
    directory = os.path.dirname(path)
    modes = {os.stat(os.path.join(directory, name)).st_mode & 0o777 for name in os.listdir(directory)}

    assert modes == {0o600}
    assert os.stat(directory).st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_write_to_is_refused(path) -> None:
    """State in a directory where others could swap it is refused, with the command that mends it."""
    os.mkdir(os.path.dirname(path), 0o700)
    os.chmod(os.path.dirname(path), 0o777)

    with pytest.raises(PermissionRefused) as caught:
        Store(path)

    assert "chmod o-w" in (caught.value.hint or "")


def test_a_second_broker_on_the_same_state_is_refused(path, store) -> None:
    """A second opening of the same state is refused with a hint while the first one is open."""
    with pytest.raises(StateUnavailable) as caught:
        Store(path)

    assert "Another broker runs on this state" in (caught.value.hint or "")


def test_every_opening_has_a_boot_epoch_of_its_own(path) -> None:
    """The boot epoch is one more at each opening."""
    epochs = []
    for _ in range(3):
        store = Store(path)
        epochs.append(store.boot_epoch)
        store.close()

    assert epochs == [1, 2, 3]


def test_the_time_seen_is_the_last_one(store) -> None:
    """A clock that was wrong is not noted for good."""
    store.note_time(200.0)
    store.note_time(100.0)

    assert store.time_seen == 100.0


def test_an_invitation_is_used_once(store) -> None:
    """The second use of an invitation changes nothing, whatever certificate it comes with."""
    store.invite(WEB, INVITATION)

    uses = [store.redeem("id", CertificateRow(spki, "web01", "1", 1.0), 20.0) for spki in ("aa", "bb")]

    assert uses == [True, False]
    assert list(store.certificates("web01")) == ["aa"]


def test_of_many_threads_one_uses_an_invitation(store) -> None:
    """When threads race for one invitation, exactly one wins."""
    store.invite(WEB, INVITATION)
    wins: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda n=n: wins.append(
                store.redeem("id", CertificateRow(f"{n}", "web01", "1", 1.0), 20.0)
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
    store.redeem("id", CERTIFICATE, 20.0)
    store.invite(WEB, InvitationRow("id2", "web01", bytes(32), 30.0, 930.0))
    store.redeem("id2", CertificateRow("bb", "web01", "18", 5000.0), 40.0)

    assert {spki: row.revoked_at for spki, row in store.certificates("web01").items()} == {
        "aa": 40.0,
        "bb": None,
    }


def test_a_new_invitation_voids_the_pending_one(store) -> None:
    """At most one invitation for a consumer is pending."""
    store.invite(WEB, INVITATION)
    store.invite(WEB, InvitationRow("id2", "web01", bytes(32), 30.0, 930.0))

    assert [store.invitation(each).status for each in ("id", "id2")] == ["void", "pending"]


def test_revoking_reaches_certificates_and_invitations(store) -> None:
    """A revoked consumer has no valid certificate and no pending invitation, and cannot renew."""
    store.invite(WEB, INVITATION)
    store.redeem("id", CERTIFICATE, 20.0)
    store.invite(WEB, InvitationRow("id2", "web01", bytes(32), 30.0, 930.0))

    store.revoke("web01", 50.0)

    assert store.consumers()["web01"].revoked_at == 50.0
    assert store.certificates("web01")["aa"].revoked_at == 50.0
    assert store.invitation("id2").status == "void"
    assert not store.renew(CertificateRow("aa", "web01", "19", 9000.0))


def test_an_expired_invitation_stays_expired(store) -> None:
    """An invitation once seen expired is used by nobody, also when the clock is set back."""
    store.invite(WEB, INVITATION)
    store.expire_invitations(910.0)

    assert store.invitation("id").status == "expired"
    assert not store.redeem("id", CERTIFICATE, 20.0)


def test_the_last_wrong_try_makes_an_invitation_void(store) -> None:
    """An invitation lives through one wrong try less than the limit, and not through the limit."""
    store.invite(WEB, INVITATION)
    states = []
    for _ in range(5):
        store.count_wrong_try("id", 5)
        states.append(store.invitation("id").status)

    assert states == ["pending"] * 4 + ["void"]


def test_only_a_known_key_of_that_consumer_renews(store) -> None:
    """A renewal changes the certificate of a registered key, and of no other consumer's."""
    store.invite(WEB, INVITATION)
    store.redeem("id", CERTIFICATE, 20.0)

    newer = CertificateRow("aa", "web01", "18", 9000.0)

    assert store.renew(newer)
    assert not store.renew(CertificateRow("bb", "web01", "18", 9000.0))
    assert not store.renew(CertificateRow("aa", "db", "18", 9000.0))
    assert store.certificates("web01") == {"aa": replace(newer, earlier_end=CERTIFICATE.not_after)}


def test_state_of_the_first_version_is_taken_over(path) -> None:
    """Consumers that were written before there were streams and SSH keys have neither, and are all there."""
    Store(str(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        indexes = db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        drops = "".join(f"DROP INDEX {name};" for (name,) in indexes.fetchall())
        db.executescript(
            drops + "ALTER TABLE consumers DROP COLUMN stream; ALTER TABLE consumers DROP COLUMN ssh_key;"
            "ALTER TABLE consumers DROP COLUMN bare_line;"
            "ALTER TABLE invitations DROP COLUMN used_from; ALTER TABLE certificates DROP COLUMN earlier_end;"
            "DROP TABLE seeds; DROP TABLE guests; DELETE FROM migrations WHERE version >= 2;"
            "INSERT INTO consumers VALUES ('web01', NULL, NULL, 'full', 1.5, NULL);"
        )

    with contextlib.closing(Store(str(path))) as store:
        assert store.consumers() == {
            "web01": ConsumerRow("web01", None, None, frozenset({DrawClass.FULL}), 1.5)
        }


def test_state_of_a_newer_version_is_refused(path) -> None:
    """State with a schema we do not know is refused and left as it is."""
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO migrations VALUES (?)", (len(MIGRATIONS) + 1,))
    db.close()

    with pytest.raises(StateUnavailable, match="newer version"):
        Store(path)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 20, b"\xff" * 4096])
def test_a_damaged_file_is_refused_with_a_hint(path, content) -> None:
    """A file that is no database is refused with what to do, and not overwritten."""
    os.mkdir(os.path.dirname(path), 0o700)
    with open(path, "wb") as file:
        file.write(content)

    with pytest.raises(StateUnavailable) as caught:
        Store(path)

    assert "backup" in (caught.value.hint or "")
    with open(path, "rb") as file:
        assert file.read() == content


def test_a_damaged_row_is_refused(path) -> None:
    """A quota state that cannot be read is an error and never an empty account."""
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("""INSERT INTO quota VALUES ('web01', '{"spent": 1}')""")
    db.close()
    store = Store(path)

    with pytest.raises(StateUnavailable, match="damaged"):
        store.leased("web01")
    store.close()


def test_what_was_reserved_before_sigkill_is_there(path) -> None:
    """After SIGKILL in the middle of writing, every reservation that had returned is on disk, and the lock is free."""
    writer = run_python(
        """
        import sys
        from drawwell.entropy.quota import QuotaState
        from drawwell.state.store import Store
        store = Store(sys.argv[1])
        for n in range(1, 10**9):
            store.lease({f"c{k}": QuotaState(0, 1.0, n) for k in range(20)})
            print(n, flush=True)
        """,
        path,
    )
    acknowledged = 0
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged == 50:
            writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()

    store = Store(path)
    reserved = {store.leased(f"c{k}").reserved_bytes for k in range(20)}
    store.close()

    assert len(reserved) == 1, "one transaction: all consumers or none"
    assert reserved <= {acknowledged, acknowledged + 1}


def test_a_full_file_is_unavailable_and_heals(path) -> None:
    """When the file may not grow, writing fails with a hint; what was there stays, and space lets it go on."""
    store = Store(path)
    store.lease({"web01": QuotaState(0, 1.0, 7)})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path + "-wal"), old[1]))
    try:
        with pytest.raises(StateUnavailable) as caught:
            store.lease({f"c{n}": QuotaState(0, 1.0, n) for n in range(5000)})
        kept = store.leased("web01"), store.leased("c0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    store.lease({"web01": QuotaState(0, 1.0, 8)})
    after = store.leased("web01")
    store.close()

    assert "Free some space" in (caught.value.hint or "")
    assert kept == (QuotaState(0, 1.0, 7), None)
    assert after == QuotaState(0, 1.0, 8)


def some_consumers(store: Store, count: int) -> None:
    for number in range(count):
        row = ConsumerRow(f"c{number:03}", None, None, frozenset(DrawClass), 0.0)
        store.invite(row, InvitationRow(f"i{number}", row.name, bytes(32), 10.0, 910.0))
        store.redeem(f"i{number}", CertificateRow(f"k{number}", row.name, "1", 1000.0), 20.0)


def test_consumers_come_in_pages(store) -> None:
    """A page has the next names in their order, with certificate and last invitation."""
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


def test_no_call_for_one_consumer_reads_a_whole_table(store) -> None:
    """Every statement of the port finds its rows by an index; that of bare lines has only those."""
    some_consumers(store, 3)
    statements = []
    store._db.set_trace_callback(statements.append)
    store.find("c001")
    store.owner_of("k1")
    store.page("c001", "", 1)
    store.bare_lines()
    store.invitation("i1")
    store.last_invitation_ends(20.0)
    store.expire_invitations(20.0)
    store.count_wrong_try("i1", 5)
    store.renew(CertificateRow("k1", "c001", "2", 2000.0))
    store.leased("c001")
    store.lease({"c001": QuotaState()})
    again = InvitationRow("j1", "c001", bytes(32), 10.0, 910.0)
    store.invite(ConsumerRow("c001", None, None, frozenset(DrawClass), 0.0), again)
    store.redeem("j1", CertificateRow("l1", "c001", "1", 1000.0), 20.0)
    store.revoke("c001", 50.0)
    store.claim_seed("vm1", 20.0, again=False)
    store._db.set_trace_callback(None)
    queries = [each for each in statements if each.split()[0] in {"SELECT", "UPDATE", "INSERT", "DELETE"}]
    plans = {each: store._db.execute(f"EXPLAIN QUERY PLAN {each}").fetchall() for each in queries}
    steps = [step[3] for plan in plans.values() for step in plan]
    assert len(queries) > 20
    assert [step for step in steps if "SCAN" in step and "by_line" not in step] == []
