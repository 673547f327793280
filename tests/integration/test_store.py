"""state/store.py on a real file system: written data survives."""

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from drawwell.crypto.tokens import secret_hash
from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.quota import DAY_S, QuotaState
from drawwell.errors import PermissionRefused, StateUnavailable
from drawwell.state import store as store_module
from drawwell.state.rows import CertificateRow, ConsumerRow, InvitationRow
from drawwell.state.schema import MIGRATIONS
from drawwell.state.store import Store
from drawwell.units import Allowance

SECRET = bytes(32)
WEB = ConsumerRow("web01", Allowance(4097, 1.0), None, frozenset(DrawClass), created=1.5)
INVITATION = InvitationRow("id", "web01", secret_hash(SECRET), created=10.0, expires=910.0)
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
    """Consumers, invitations, certificates and quotas read back exactly."""
    states = {"web01": QuotaState(3, 0.1, 12345678901234567890), "db": QuotaState()}
    store = Store(path)
    store.invite(WEB, INVITATION)
    store.redeem("id", SECRET, CERTIFICATE, 20.0)
    store.lease(states)
    store.close()

    store = Store(path)
    read = store.consumers(), store.invitation("id"), store.certificates("web01")
    leased = {name: store.leased(name) for name in states}
    store.close()

    used = InvitationRow("id", "web01", secret_hash(SECRET), 10.0, 910.0, "used", 20.0)
    assert read == ({"web01": WEB}, used, {"aa": CERTIFICATE})
    assert leased == states


def test_only_the_owner_may_read_it(path, store) -> None:
    """State and SQLite's files have mode 0600, and their directory 0700."""
    directory = os.path.dirname(path)
    modes = {os.stat(os.path.join(directory, name)).st_mode & 0o777 for name in os.listdir(directory)}

    assert modes == {0o600}
    assert os.stat(directory).st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_write_to_is_refused(path) -> None:
    """A state directory that others can write is refused, with the fix."""
    os.mkdir(os.path.dirname(path), 0o700)
    os.chmod(os.path.dirname(path), 0o777)

    with pytest.raises(PermissionRefused) as caught:
        Store(path)

    assert "chmod o-w" in (caught.value.hint or "")


def test_a_second_broker_on_the_same_state_is_refused(path, store) -> None:
    """A second opening is refused with a hint while the first is open."""
    with pytest.raises(StateUnavailable) as caught:
        Store(path)

    assert "Another broker is using this state" in (caught.value.hint or "")


def test_every_opening_has_a_boot_epoch_of_its_own(path) -> None:
    """The boot epoch increases at each opening."""
    epochs = []
    for _ in range(3):
        store = Store(path)
        epochs.append(store.boot_epoch)
        store.close()

    assert epochs == [1, 2, 3]


def test_the_time_seen_is_the_last_one(store) -> None:
    """A clock that was wrong is not recorded permanently."""
    store.note_time(200.0)
    store.note_time(100.0)

    assert store.time_seen == 100.0


def test_state_of_the_first_version_is_taken_over(path) -> None:
    """Consumers from before streams and SSH keys have neither."""
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
    """State with an unknown schema is refused and not changed."""
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO migrations VALUES (?)", (len(MIGRATIONS) + 1,))
    db.close()

    with pytest.raises(StateUnavailable, match="newer version"):
        Store(path)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 20, b"\xff" * 4096])
def test_a_damaged_file_is_refused_with_a_hint(path, content) -> None:
    """A file that is not a database is refused with a hint, and kept."""
    os.mkdir(os.path.dirname(path), 0o700)
    with open(path, "wb") as file:
        file.write(content)

    with pytest.raises(StateUnavailable) as caught:
        Store(path)

    assert "backup" in (caught.value.hint or "")
    with open(path, "rb") as file:
        assert file.read() == content


def test_a_damaged_row_is_refused(path) -> None:
    """An unreadable quota is an error, never an empty account."""
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("""INSERT INTO quota VALUES ('web01', '{"spent": 1}')""")
    db.close()
    store = Store(path)

    with pytest.raises(StateUnavailable, match="damaged"):
        store.leased("web01")
    store.close()


def test_what_was_reserved_before_sigkill_is_there(path) -> None:
    """After SIGKILL every completed reservation is on disk, without a lock."""
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
    """If the file is full, writes fail with a hint; freed space fixes this."""
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

    assert "Free space" in (caught.value.hint or "")
    assert kept == (QuotaState(0, 1.0, 7), None)
    assert after == QuotaState(0, 1.0, 8)


def some_consumers(store: Store, count: int) -> None:
    for number in range(count):
        row = ConsumerRow(f"c{number:03}", None, None, frozenset(DrawClass), 0.0)
        store.invite(row, InvitationRow(f"i{number}", row.name, secret_hash(SECRET), 10.0, 910.0))
        store.redeem(f"i{number}", SECRET, CertificateRow(f"k{number}", row.name, "1", 1000.0), 20.0)


def test_no_call_for_one_consumer_reads_a_whole_table(store) -> None:
    """Every statement uses an index, except for one over bare lines."""
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
    again = InvitationRow("j1", "c001", secret_hash(SECRET), 10.0, 910.0)
    store.invite(ConsumerRow("c001", None, None, frozenset(DrawClass), 0.0), again)
    store.redeem("j1", SECRET, CertificateRow("l1", "c001", "1", 1000.0), 20.0)
    store.revoke("c001", 50.0)
    store.claim_seed("vm1", 20.0, again=False)
    store._db.set_trace_callback(None)
    queries = [each for each in statements if each.split()[0] in {"SELECT", "UPDATE", "INSERT", "DELETE"}]
    plans = {each: store._db.execute(f"EXPLAIN QUERY PLAN {each}").fetchall() for each in queries}
    steps = [step[3] for plan in plans.values() for step in plan]
    assert len(queries) > 20
    assert [step for step in steps if "SCAN" in step and "by_line" not in step] == []


def test_old_reservations_are_dropped_page_by_page(store, monkeypatch) -> None:
    """Periods that ended a day ago are dropped, but not future ones."""
    monkeypatch.setattr(store_module, "_PAGE", 2)
    now = 1000 * DAY_S
    old = {f"o{number}": QuotaState(998, DAY_S, 5) for number in range(5)}
    kept = {
        "a": QuotaState(999, DAY_S, 5),
        "b": QuotaState(1000, DAY_S, 5),
        "c": QuotaState(2000, DAY_S, 5),
        "d": QuotaState(),
    }
    store.lease(old | kept)
    with store.transaction() as db:
        db.execute("INSERT INTO quota VALUES ('e', 'damaged')")
    store.drop_ended(0.0)
    for _ in range(5):
        store.drop_ended(now)
    assert store.all_leased() == [*kept, "e"]
    store.lease({"a": QuotaState(998, DAY_S, 5)})
    for _ in range(3):
        store.drop_ended(now)
    assert store.all_leased() == ["b", "c", "d", "e"]
