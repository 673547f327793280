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
from drawwell.state.store import MIGRATIONS, Store
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
    store.reserve_quota(states)
    store.close()

    store = Store(path)
    read = store.consumers(), store.invitations(), store.certificates(), store.quota_states()
    store.close()

    used = InvitationRow("id", "web01", bytes(32), 10.0, 910.0, "used", 20.0)
    assert read == ({"web01": WEB}, {"id": used}, {"aa": CERTIFICATE}, states)


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
    assert list(store.certificates()) == ["aa"]


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

    assert {spki: row.revoked_at for spki, row in store.certificates().items()} == {"aa": 40.0, "bb": None}


def test_a_new_invitation_voids_the_pending_one(store) -> None:
    """At most one invitation for a consumer is pending."""
    store.invite(WEB, INVITATION)
    store.invite(WEB, InvitationRow("id2", "web01", bytes(32), 30.0, 930.0))

    assert {row.id: row.status for row in store.invitations().values()} == {"id": "void", "id2": "pending"}


def test_revoking_reaches_certificates_and_invitations(store) -> None:
    """A revoked consumer has no valid certificate and no pending invitation, and cannot renew."""
    store.invite(WEB, INVITATION)
    store.redeem("id", CERTIFICATE, 20.0)
    store.invite(WEB, InvitationRow("id2", "web01", bytes(32), 30.0, 930.0))

    store.revoke("web01", 50.0)

    assert store.consumers()["web01"].revoked_at == 50.0
    assert store.certificates()["aa"].revoked_at == 50.0
    assert store.invitations()["id2"].status == "void"
    assert not store.renew(CertificateRow("aa", "web01", "19", 9000.0))


def test_an_expired_invitation_stays_expired(store) -> None:
    """An invitation once seen expired is used by nobody, also when the clock is set back."""
    store.invite(WEB, INVITATION)
    store.expire_invitations(910.0)

    assert store.invitations()["id"].status == "expired"
    assert not store.redeem("id", CERTIFICATE, 20.0)


def test_the_last_wrong_try_makes_an_invitation_void(store) -> None:
    """An invitation lives through one wrong try less than the limit, and not through the limit."""
    store.invite(WEB, INVITATION)
    states = []
    for _ in range(5):
        store.count_wrong_try("id", 5)
        states.append(store.invitations()["id"].status)

    assert states == ["pending"] * 4 + ["void"]


def test_only_a_known_key_of_that_consumer_renews(store) -> None:
    """A renewal changes the certificate of a registered key, and of no other consumer's."""
    store.invite(WEB, INVITATION)
    store.redeem("id", CERTIFICATE, 20.0)

    newer = CertificateRow("aa", "web01", "18", 9000.0)

    assert store.renew(newer)
    assert not store.renew(CertificateRow("bb", "web01", "18", 9000.0))
    assert not store.renew(CertificateRow("aa", "db", "18", 9000.0))
    assert store.certificates() == {"aa": replace(newer, earlier_end=CERTIFICATE.not_after)}


def test_state_of_the_first_version_is_taken_over(path) -> None:
    """Consumers that were written before there were streams and SSH keys have neither, and are all there."""
    Store(str(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            "ALTER TABLE consumers DROP COLUMN stream; ALTER TABLE consumers DROP COLUMN ssh_key;"
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
        store.quota_states()
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
            store.reserve_quota({f"c{k}": QuotaState(0, 1.0, n) for k in range(20)})
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
    reserved = {state.reserved_bytes for state in store.quota_states().values()}
    store.close()

    assert len(reserved) == 1, "one transaction: all consumers or none"
    assert reserved <= {acknowledged, acknowledged + 1}


def test_a_full_file_is_unavailable_and_heals(path) -> None:
    """When the file may not grow, writing fails with a hint; what was there stays, and space lets it go on."""
    store = Store(path)
    store.reserve_quota({"web01": QuotaState(0, 1.0, 7)})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path + "-wal"), old[1]))
    try:
        with pytest.raises(StateUnavailable) as caught:
            store.reserve_quota({f"c{n}": QuotaState(0, 1.0, n) for n in range(5000)})
        kept = store.quota_states()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    store.reserve_quota({"web01": QuotaState(0, 1.0, 8)})
    after = store.quota_states()
    store.close()

    assert "Free some space" in (caught.value.hint or "")
    assert kept == {"web01": QuotaState(0, 1.0, 7)}
    assert after == {"web01": QuotaState(0, 1.0, 8)}
