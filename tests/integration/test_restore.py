"""A state from a backup: nothing that it lacks happens twice."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.crypto.audit_chain import parse_line
from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.quota import Quota
from drawwell.errors import UsageError
from drawwell.state.restore import EPOCHS_SINCE_S, HOUR_S, MAX_EPOCH, START_EVERY_S, restore
from drawwell.state.rows import VOID, ConsumerRow, InvitationRow
from drawwell.state.store import Store
from drawwell.units import Allowance
from support.daemon import command
from support.station import Site

NOW = EPOCHS_SINCE_S + 60_000 * HOUR_S
DAY_S = 86_400.0
SERVICE = 4242
DAILY = Allowance(10_000, DAY_S)
WEB = ConsumerRow("web01", Allowance(10, 1.0), DAILY, frozenset(DrawClass), created=NOW - DAY_S)


class Backup:
    """A state, and a copy that can be restored repeatedly."""

    def __init__(self, folder: Path) -> None:
        self._state, self._kept = folder / "state", folder / "kept"
        with self.opened() as store:
            store.put_consumer(WEB)
            store.note_time(NOW)
        shutil.copytree(self._state, self._kept)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Store]:
        with contextlib.closing(Store(str(self._state / "broker.db"))) as store:
            yield store

    def put_back(self) -> None:
        shutil.rmtree(self._state)
        shutil.copytree(self._kept, self._state)


def test_a_restored_state_begins_above_all_that_was_lost(tmp_path: Path) -> None:
    """Serial numbers never repeat, for any number of restores and starts."""
    backup, reached, now = Backup(tmp_path), 0, NOW
    for starts in (3, 40, 7, 1):
        for _ in range(starts):
            with backup.opened() as store:
                assert store.boot_epoch > reached
                reached = store.boot_epoch
        now += 50 * START_EVERY_S
        backup.put_back()
        with backup.opened() as store:
            assert restore(store, {}, now) > reached
    assert reached >= 60_000  # the hours since 2020


def test_a_backup_that_is_too_old_is_refused(tmp_path: Path) -> None:
    """Serial numbers that no longer fit are refused."""
    backup = Backup(tmp_path)
    with backup.opened() as store, pytest.raises(UsageError, match="too old"):
        restore(store, {}, NOW + MAX_EPOCH * START_EVERY_S)


def test_a_restored_state_gives_nothing_twice(tmp_path: Path) -> None:
    """Invitations are void, seeds issued, and quotas spent for this period."""
    backup = Backup(tmp_path)
    with backup.opened() as store:
        store.invite(WEB, InvitationRow("id", "web01", bytes(32), NOW, NOW + 900))
        restore(store, {"web01": DAILY, "db01": None}, NOW)
        spent = Quota(WEB.rate, WEB.quota, now=NOW, restored=store.leased("web01"))
        assert spent.left(NOW) == 0
        assert spent.left(NOW + DAY_S) == DAILY.limit_bytes
        assert store.leased("db01")  # its bucket is empty at first
        assert store.invitation("id").status == VOID
        seed = store.claim_seed("vm7", NOW, again=False)
        assert seed is not None
        assert seed.written_at == NOW
        assert store.claim_seed("vm7", NOW, again=True) is None


def test_the_verb_revokes_and_names_who_may_draw(folder: Path) -> None:
    """restore revokes the given consumers, and refuses while a broker runs."""
    site = Site(folder)
    (folder / "state").mkdir(mode=0o700)
    with contextlib.closing(Store(str(folder / "state" / "broker.db"))) as store:
        store.put_consumer(WEB)
        store.put_consumer(ConsumerRow("db01", None, None, frozenset(DrawClass), NOW))
        store.note_time(NOW)
        assert command("restore", config=site.path).returncode == 74  # in use
    assert command("restore", "--revoke", "nosuch", config=site.path).returncode == 64
    done = command("restore", "--revoke", "web01", config=site.path)
    assert (done.returncode, done.stdout.split(";")[1].strip()) == (
        0, "invited consumers that may draw: db01"
    ), done.stderr  # fmt: skip
    line = parse_line((folder / "state" / "audit-operators.jsonl").read_bytes().rstrip())
    assert (line["event"], line["backup_at"], line["revoked"]) == ("restored", NOW, ["web01"])
    with contextlib.closing(Store(str(folder / "state" / "broker.db"))) as store:
        assert store.consumers()["web01"].revoked_at is not None
        assert store.leased("web01")
        assert store.leased("db01") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and a user who is not")
def test_root_restores_with_the_rights_of_the_states_owner(folder: Path) -> None:
    """Written files still belong to the owner, so that its broker can start."""
    site, state = Site(folder), folder / "state"
    folder.chmod(0o755)
    state.mkdir(mode=0o700)
    with contextlib.closing(Store(str(state / "broker.db"))) as store:
        store.note_time(NOW)
    for path in (state, *state.iterdir()):
        os.chown(path, SERVICE, SERVICE)
    done = command("restore", config=site.path)
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in state.iterdir()} == {SERVICE}
    assert (state / "audit-operators.jsonl").exists()
