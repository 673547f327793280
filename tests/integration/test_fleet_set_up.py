"""Setting up a fleet on PostgreSQL: role, consumers, certificates."""

import os
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from drawwell.cli.fleet import setting_up
from drawwell.config.load import load
from drawwell.crypto import pki
from drawwell.crypto.hierarchy import PublicKeys
from drawwell.crypto.tokens import secret_hash
from drawwell.enrolment.terms import BOTH
from drawwell.entropy.quota import QuotaState
from drawwell.errors import ConfigError, PermissionRefused, StateUnavailable, UsageError
from drawwell.fleet.checks import Wanted
from drawwell.fleet.connection import Address
from drawwell.fleet.founding import Founding
from drawwell.fleet.membership import FleetMembership
from drawwell.fleet.shared_address import SharedAddress, password_of, read_address
from drawwell.fleet.store import PostgresStore
from drawwell.roles.signer_process import SignerRole
from drawwell.state.rows import CertificateRow, ConsumerRow, InvitationRow
from drawwell.state.store import Store
from drawwell.testing.waiting import wait_until
from drawwell.units import Allowance
from drawwell.wire.signer_messages import read_object, write_object
from support.postgres import FleetDatabase, Server

DAY_S = 86400.0
SECRET = bytes(32)


def owner_of(postgres: Server, *, may_make_roles: bool = True) -> str:
    """Create a database with an owner, and return its address."""
    name = f"owned{time.monotonic_ns()}"
    postgres.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'x' {'CREATEROLE' if may_make_roles else ''}")
    postgres.sql(f"CREATE DATABASE {name} OWNER {name}")
    return f"{postgres.address(name, name)} password='x'"


def state_with_a_consumer(folder: Path) -> Store:
    """Invite a consumer that has reserved 700 of today's 1000 bytes."""
    store, now = Store(str(folder / "broker.db")), time.time()
    invitation = InvitationRow("id", "web01", secret_hash(SECRET), now, now + 900)
    store.invite(ConsumerRow("web01", None, Allowance(1000, DAY_S), BOTH, now), invitation)
    with store.transaction() as db:
        db.execute("INSERT INTO certificates VALUES ('aa', 'web01', '1', ?, NULL, 0)", (time.time() + 9,))
    store.lease({"web01": QuotaState(int(time.time() // DAY_S), DAY_S, 700)})
    store.claim_seed("vm1", time.time(), again=False)
    return store


def founded(postgres: Server, address: str, role: str, fleet: str = "example") -> str:
    """Set up a database, and return its address for the role of site-a."""
    with Founding(address) as founding:
        shared = founding.shared(role, "site-a", "kept")
        founding.install(fleet, role, "site-a")
        founding.admit("site-a", "kept")
    return f"{shared.address} password=kept"


def test_consumers_move_with_what_they_have_spent(postgres: Server, tmp_path: Path) -> None:
    """Terms, certificates, seeds, quotas and invitations are copied once."""
    address, role = owner_of(postgres), f"r{time.monotonic_ns()}"
    broker = founded(postgres, address, role)
    old = state_with_a_consumer(tmp_path)
    with Founding(address) as founding:
        assert founding.move(old) == 1
        assert founding.move(old) == 0
    store = PostgresStore(Address(broker, Wanted("example")), "site-a")
    try:
        known = store.find("web01")
        assert known
        assert known.row.quota == Allowance(1000, DAY_S)
        assert list(known.certificates) == ["aa"]
        assert store.claim_seed("vm1", time.time(), again=False)
        assert store.next_epoch() > old.boot_epoch
        assert store.redeem("id", SECRET, CertificateRow("bb", "web01", "2", time.time() + 9), time.time())
        granted = "SELECT granted, reason FROM drawwell.lease(ARRAY['web01'], ARRAY[{}]::bigint[], "
        granted += (
            "ARRAY[NULL]::bigint[], ARRAY[NULL]::bigint[], ARRAY[NULL]::bigint[], ARRAY[NULL]::bigint[])"
        )
        with psycopg.connect(broker, autocommit=True) as db:
            assert db.execute(granted.format(301)).fetchone() == (0, "quota")
            assert db.execute(granted.format(300)).fetchone() == (300, "")
    finally:
        store.close()
        old.close()


def test_a_half_done_start_goes_on(postgres: Server) -> None:
    """Only the machine with the stored password can set up again."""
    address, role = owner_of(postgres), f"r{time.monotonic_ns()}"
    for _ in range(2):
        founded(postgres, address, role)
    with Founding(address) as founding, pytest.raises(UsageError, match="has a role"):
        founding.shared(role, "site-b", "")


def test_the_server_takes_the_verifier_of_a_password(postgres: Server) -> None:
    """A broker logs in with a password whose verifier the server stores."""
    address, role = owner_of(postgres), f"r{time.monotonic_ns()}"
    broker = founded(postgres, address, role)
    rules = postgres.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"host all +{role} all scram-sha-256\n{before}")
    postgres.sql("SELECT pg_reload_conf()")
    try:
        wait_until(lambda: is_refused(broker.replace("kept", "wrong")), "the rule is read")
        with psycopg.connect(broker) as db:
            assert db.pgconn.used_password
    finally:
        rules.write_text(before)
        postgres.sql("SELECT pg_reload_conf()")


def is_refused(address: str) -> bool:
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError as error:
        return "password authentication failed" in str(error)
    return False


def test_wrong_input_is_refused_with_a_hint(postgres: Server) -> None:
    """Each kind of wrong input has its own error."""
    for wrong in ("", "postgresql://[", "host=db.example dbname=x"):
        with pytest.raises(ConfigError) as refused:
            Founding(wrong)
        assert refused.value.hint
    with pytest.raises(StateUnavailable, match="cannot be reached"), Founding(f"host={postgres.host} port=1"):
        pass
    with Founding(owner_of(postgres, may_make_roles=False)) as founding:
        with pytest.raises(StateUnavailable) as refused:
            founding.install("example", f"r{time.monotonic_ns()}", "site-a")
        assert "CREATEROLE" in str(refused.value.hint)
    address = owner_of(postgres)
    founded(postgres, address, f"r{time.monotonic_ns()}")
    with pytest.raises(StateUnavailable, match="belongs to the fleet 'example'"):
        founded(postgres, address, f"r{time.monotonic_ns()}", "other")


def test_an_address_goes_to_another_machine_without_its_files(tmp_path: Path) -> None:
    """Password and CA are transferred and stored in new files."""
    ca, passfile = tmp_path / "ca.pem", tmp_path / "pass"
    ca.write_bytes(pki.new_ca("db", 1.7e9).certificate_pem)
    passfile.write_text("db1:5432:x:other:no\n*:*:*:me:a\\:b\\\\c\n")
    passfile.chmod(0o600)
    shared = SharedAddress.of(f"host=db1 user=me sslmode=verify-full sslrootcert={ca} passfile={passfile}")
    assert "passfile" not in shared.address
    assert "sslrootcert" not in shared.address
    assert shared.password == "a:b\\c"
    assert shared.ca == ca.read_text()
    assert password_of(shared.password_line(), "me") == shared.password
    here = shared.here("/there/pass", "/there/ca.pem")
    assert "passfile=/there/pass" in here
    assert "sslrootcert=/there/ca.pem" in here
    assert shared.password not in repr(shared)


def test_the_files_of_root_stay_out_of_the_broker_s_addresses(tmp_path: Path, monkeypatch: Any) -> None:
    """The CA is copied, also from libpq's place, and the owner has the copy."""
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").write_bytes(pki.new_ca("db", 1.7e9).certificate_pem)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(setting_up, "OWNER_FILE", str(tmp_path / "owner"))
    address = "host=db1 user=me password=x sslmode=verify-full"
    shared = SharedAddress.of(address)
    assert shared.ca == (tmp_path / ".postgresql/root.crt").read_text()
    setting_up.keep_owner(
        f"{address} sslrootcert={tmp_path}/ca.pem", shared.here("/there/pass", "/there/ca.pem")
    )
    assert read_address((tmp_path / "owner").read_text()) == read_address(
        f"{address} sslrootcert=/there/ca.pem"
    )


class Keys:
    """A signer in this process, called as if by the broker's user."""

    def __init__(self, folder: Path, name: str, clock: list[float]) -> None:
        self._role = SignerRole(make(folder / name), name, lambda: clock[0])

    def ask(self, op: str, *, as_root: bool = False, **arguments: Any) -> dict[str, Any]:
        uid = os.geteuid() if as_root else 4_000_000
        answer = read_object(self._role.answer(write_object(op=op, **arguments), uid))
        if "error" in answer:
            raise {"refused": PermissionRefused, "usage": UsageError}.get(answer["error"], ValueError)(
                answer["message"]
            )
        return answer

    def close(self) -> None:
        self._role.log.close()

    def public(self) -> PublicKeys:
        found = self.ask("public")
        return PublicKeys(
            *(found[name].encode() for name in ("roots", "authorities", "receipt_key", "key_list"))
        )


def make(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def member(folder: Path, name: str, database: FleetDatabase, keys: Keys) -> FleetMembership:
    path, owner = folder / f"{name}.toml", folder / "owner-of-site-a"
    owner.write_text(database.owner)
    path.write_text(
        f'[broker]\nname = "{name}"\n[fleet]\nname = "test"\nstore = "{database.of(name)}"\n'
        f'owner = "{folder}/owner-of-{name}"\n'
    )
    return FleetMembership(load(str(path)), keys)


def joined(folder: Path, clock: list[float]) -> tuple[Keys, Keys]:
    """Return the first broker of a fleet, and a second one that has joined."""
    a, b = (Keys(folder, name, clock) for name in ("site-a", "site-b"))
    a.ask("fleet-found", as_root=True, fleet="example")
    made = a.ask("fleet-invite", as_root=True, broker="site-b", ttl_s=60)
    request = b.ask("fleet-request", as_root=True)
    answer = a.ask("fleet-admit", invitation=made["invitation"], secret=made["secret"], **request)
    b.ask(
        "fleet-adopt", as_root=True, **{key: answer[key] for key in ("fleet", "certificate", "root", "keys")}
    )
    return a, b


def test_a_broker_is_certified_again_through_the_store(fleet_database: FleetDatabase, tmp_path: Path) -> None:
    """After 60 days it sends a request, and the first broker answers."""
    clock = [1_700_000_000.0]
    a, b = joined(tmp_path, clock)
    first, second = (
        member(tmp_path, name, fleet_database, keys) for name, keys in (("site-a", a), ("site-b", b))
    )
    clock[0] += 61 * pki.DAY_S
    a.ask("rotate", as_root=True, what="receipts")
    assert b.ask("fleet-describe")["csr"]
    for each in (second, first, second):
        each.follow()
        assert each.trouble == ""
    assert not b.ask("fleet-describe")["csr"]
    assert b.public().key_list == a.public().key_list
    a.ask("export-root", as_root=True)
    a.ask("forget-root", as_root=True)
    clock[0] += 61 * pki.DAY_S
    for each in (second, first, second):
        each.follow()
    assert b.ask("fleet-describe")["csr"]
    for each, keys in ((first, a), (second, b)):
        close(each)
        keys.close()


def test_a_broker_follows_a_new_root_through_the_store(fleet_database: FleetDatabase, tmp_path: Path) -> None:
    """The broker gets its certificate in the second round after finish-root."""
    clock = [1_700_000_000.0]
    a, b = joined(tmp_path, clock)
    first, second = (
        member(tmp_path, name, fleet_database, keys) for name, keys in (("site-a", a), ("site-b", b))
    )

    def follow(*members: FleetMembership) -> None:
        for each in members:
            each.follow()
            assert each.trouble == ""

    a.ask("rotate", as_root=True, what="root")
    follow(first, second)
    assert b.public().roots == a.public().roots
    clock[0] += 7 * pki.DAY_S
    a.ask("rotate", as_root=True, what="finish-root")
    follow(first, second)
    assert b.public().roots != a.public().roots
    assert b.ask("describe", as_root=True)["intermediate_is_due"]
    follow(first, second)
    assert b.public().roots == a.public().roots
    assert not b.ask("fleet-describe")["csr"]
    for each, keys in ((first, a), (second, b)):
        close(each)
        keys.close()


def test_false_mail_delays_a_certificate_and_no_more(fleet_database: FleetDatabase, tmp_path: Path) -> None:
    """False answers and requests are dropped; the next exchange succeeds."""
    clock = [1_700_000_000.0]
    a, b = joined(tmp_path, clock)
    first, second = (
        member(tmp_path, name, fleet_database, keys) for name, keys in (("site-a", a), ("site-b", b))
    )
    false = pki.new_ca("site-b", clock[0] + 100 * pki.DAY_S).certificate_pem.decode()
    clock[0] += 61 * pki.DAY_S
    with psycopg.connect(fleet_database.owner, autocommit=True) as owner:
        requests = "SELECT name, request FROM drawwell.certificate_requests()"
        for name in ("site-b", "site-c"):
            with psycopg.connect(fleet_database.of(name)) as thief:
                thief.execute("SELECT drawwell.ask_certificate('x')")
        for answer in ("junk", false):
            owner.execute("UPDATE drawwell.certifications SET csr = 'x', certificate = %s", (answer,))
            second.follow()
            assert [name for name, _ in owner.execute(requests)] == ["site-b"]
        owner.execute("INSERT INTO drawwell.certifications VALUES ('site-d', 'x')")
        first.follow()
        assert owner.execute(requests).fetchall() == []
    second.follow()
    assert not b.ask("fleet-describe")["csr"]
    for each, keys in ((first, a), (second, b)):
        close(each)
        keys.close()


def close(each: FleetMembership) -> None:
    each._mail.close()
    each._owner.close()


def test_an_earlier_certificate_is_not_taken_back(tmp_path: Path) -> None:
    """A replayed answer does not change the current certificate."""
    clock = [1_700_000_000.0]
    a, b = joined(tmp_path, clock)
    csr = b.ask("fleet-request", as_root=True)["csr"]
    old = a.ask("fleet-renew", broker="site-b", csr=csr)["certificate"]
    clock[0] += 61 * pki.DAY_S
    b.ask("fleet-take", certificate=a.ask("fleet-renew", broker="site-b", csr=csr)["certificate"])
    b.ask("fleet-take", certificate=old)

    assert not b.ask("fleet-describe")["csr"]
    a.close()
    b.close()


def test_a_broker_may_not_invite(tmp_path: Path) -> None:
    """A compromised broker cannot admit another one."""
    keys = Keys(tmp_path, "site-a", [1_700_000_000.0])
    keys.ask("fleet-found", as_root=True, fleet="example")
    for op in ("fleet-invite", "fleet-found", "fleet-adopt", "fleet-request", "fleet-remove"):
        with pytest.raises(PermissionRefused):
            keys.ask(op, broker="site-b", ttl_s=60)
    keys.close()


def test_a_member_names_what_replaces_its_keys(tmp_path: Path) -> None:
    """A member cannot rotate or import keys; it has to join again."""
    a, b = (Keys(tmp_path, name, [1_700_000_000.0]) for name in ("site-a", "site-b"))
    a.ask("fleet-found", as_root=True, fleet="example")
    assert a.ask("describe", as_root=True)["member_of"] == ""
    made = a.ask("fleet-invite", as_root=True, broker="site-b", ttl_s=60)
    request = b.ask("fleet-request", as_root=True)
    answer = a.ask("fleet-admit", invitation=made["invitation"], secret=made["secret"], **request)
    b.ask(
        "fleet-adopt", as_root=True, **{key: answer[key] for key in ("fleet", "certificate", "root", "keys")}
    )
    for op in ("rotate", "import-root", "export-root"):
        asked = write_object(op=op, what="intermediate", pem="")
        refusal = read_object(b._role.answer(asked, os.geteuid()))
        assert "belong to the fleet example" in refusal["message"]
        assert "drawwell fleet join" in refusal["hint"]  # wording: names a command
    assert b.ask("describe", as_root=True)["member_of"] == "example"
    for each in (a, b):
        each.close()
