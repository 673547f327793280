"""A fleet of packaged brokers, under systemd and over TLS to PostgreSQL."""

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.installed import install, ready, shown
from lab.roots import Root, container
from support.certificates import PaperAuthority
from support.documents import ROOT
from system.test_fleet_sites import INIT, INVITE_CONSUMER, STATUS
from system.test_two_packages import BROKER, HWRNG, PARTS

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.long]

PACKAGES = ("postgresql-15", "python3-psycopg")
HOOK = "pg_dropcluster 15 main; systemctl disable postgresql"
PAGE = (ROOT / "docs/fleet.md").read_text()
CA = "/root/db-ca.pem"
PASSWORD = "a:secret"
REFUSED = {
    "db.example.org": "TLS to the fleet's store at db.example.org is not verified",
    f"db.example.org?sslmode=verify-full&sslrootcert={CA}.other": "certificate verify failed",
    f"db2.example.org?sslmode=verify-full&sslrootcert={CA}": "does not match host name",
    "db.example.org?sslmode=verify-full": "root certificate file",
}
"""Host and options of an address, and the error."""


class Fleet:
    """The machine of a database and two of brokers, wired to each other."""

    def __init__(self, stack: ExitStack, deb: Path, folder: Path) -> None:
        names = "db", "site-a", "site-b"
        roots = [stack.enter_context(container(packages=PACKAGES, hook=HOOK)) for _ in names]
        self.db, self.a, self.b = roots
        cables = (self.db, self.a), (self.db, self.b), (self.a, self.b)
        for number, (one, other) in enumerate(cables, 1):
            one.wire(other, f"cable{number}", f"10.9.{number}.1/24", f"10.9.{number}.2/24")
        for number, (name, root) in enumerate(zip(names, roots, strict=True)):
            root.run("hostname", f"{name}.example.org")
            with (root.path / "etc/hosts").open("a") as hosts:
                hosts.write(f"10.9.{number}.1 db.example.org db2.example.org\n")
                hosts.write("10.9.3.1 site-a.example.org\n10.9.3.2 site-b.example.org\n")
        self._make_database(folder)
        with ThreadPoolExecutor() as both:
            list(both.map(lambda root: self._make_broker(root, deb), (self.a, self.b)))

    def address(self, place: str) -> str:
        """Return the owner's address with a host and options."""
        host, question, options = place.partition("?")
        user = "drawwell_owner:" + PASSWORD.replace(":", "%3A")
        return f"postgresql://{user}@{host}/drawwell{question}{options}\n"

    def _make_database(self, folder: Path) -> None:
        """Make a cluster with TLS, and follow the page in it."""
        ca, other, db = PaperAuthority(folder), PaperAuthority(folder, "other"), self.db
        db.run("pg_createcluster", "--encoding=UTF8", "15", "main")
        settings = db.path / "etc/postgresql/15/main"
        for path, name in zip(ca.server("db.example.org"), ("server.pem", "server.key"), strict=False):
            shutil.copy(path, settings / name)
            db.run("chown", "postgres:", f"/etc/postgresql/15/main/{name}")
            db.run("chmod", "600", f"/etc/postgresql/15/main/{name}")
        (settings / "conf.d/tls.conf").write_text(
            "listen_addresses = '*'\nssl = on\nssl_cert_file = '/etc/postgresql/15/main/server.pem'\n"
            "ssl_key_file = '/etc/postgresql/15/main/server.key'\n"
        )
        with (settings / "pg_hba.conf").open("a") as rules:
            rules.write(re.findall(r"```text\n(hostssl .*?)```", PAGE, re.DOTALL)[0])
        self.start_database()
        (sql,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
        db.run("runuser", "-u", "postgres", "--", "psql", "-q", "-v", "ON_ERROR_STOP=1",
               data=sql.replace("choose one", PASSWORD))  # fmt: skip
        for source, suffix in ((ca.ca, ""), (other.ca, ".other")):
            shutil.copy(source, self.a.path / f"{CA[1:]}{suffix}")
            self.a.run("chmod", "600", f"{CA}{suffix}")

    def start_database(self) -> None:
        """Start it, and return when it answers."""
        self.db.run("systemctl", "start", "postgresql@15-main")

    def _make_broker(self, root: Root, deb: Path) -> None:
        (root.path / PARTS).mkdir(parents=True)
        (root.path / PARTS / "hwrng.toml").write_text(HWRNG)
        root.run("mknod", "-m", "600", "/dev/hwrng", "c", "1", "9")
        install(root, deb)
        root.run("drawwell", "init", "broker")
        wait_until(lambda: ready(root), "the source serves")


@pytest.fixture(scope="module")
def fleet(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with or_skip(), ExitStack() as stack:
        yield Fleet(stack, deb, tmp_path_factory.mktemp("ca"))


def type_line(root: Root, line: str, data: str = "", *, check: bool = True) -> str:
    return root.run("sh", "-c", line, data=data, check=check).stdout


def brokers(root: Root) -> dict[str, bool]:
    """Return the brokers that a broker sees, and whether each is ready."""
    done = root.run("drawwell", "--quiet", "--json", "fleet", "status", check=False)
    found = json.loads(done.stdout) if done.returncode in {0, 1} else {"brokers": []}
    return {each["name"]: each["ready"] for each in found["brokers"]}


@pytest.mark.parametrize("place", REFUSED)
def test_a_store_that_tls_does_not_verify_is_refused(fleet: Fleet, place: str) -> None:
    """`fleet init` names the fault and a remedy; the broker goes on alone."""
    printed = type_line(fleet.a, INIT[1], fleet.address(place), check=False)
    assert REFUSED[place] in printed
    assert "hint: " in printed
    assert "secret" not in printed
    wait_until(lambda: ready(fleet.a), "the broker goes on")


def test_the_five_commands(fleet: Fleet) -> None:
    """With a CA that root alone can read, both serve, and a consumer draws."""
    page = f"db.example.org?sslmode=verify-full&sslrootcert={CA}"
    for _ in range(2):
        type_line(fleet.a, INIT[1], fleet.address(page))
    token = fleet.a.run("drawwell", "--quiet", "fleet", "invite", "site-b").stdout
    for _ in range(2):
        type_line(fleet.b, "drawwell fleet join -", token)
    both = {"site-a": True, "site-b": True}
    for root in (fleet.a, fleet.b):
        wait_until(lambda root=root: brokers(root) == both, "both serve")
        assert "site-a" in type_line(root, STATUS[1], check=False)
    invited = fleet.a.run("sh", "-c", f"{INVITE_CONSUMER[1]} 2>/dev/null").stdout
    fleet.b.run("drawwell", "join", "-", "--dir", "/root/web01", data=invited)
    draw = ("drawwell", "draw", "128", "--hex", "--class", "drbg", "--via", "/root/web01")
    assert fleet.b.run(*draw).returncode == 0
    assert "Run this on site-a" in type_line(fleet.b, "drawwell consumer invite web02", check=False)


def test_a_broker_waits_for_its_store(fleet: Fleet) -> None:
    """Whether the database or the broker starts first, the broker serves."""
    fleet.db.run("systemctl", "stop", "postgresql@15-main")
    fleet.b.run("systemctl", "restart", BROKER, check=False)
    wait_until(lambda: int(shown(fleet.b, BROKER, "NRestarts")) > 1, "systemd tries again")
    assert shown(fleet.b, BROKER, "StartLimitIntervalUSec") == "0"
    assert "fleet: the fleet's store is not available" in type_line(fleet.b, "drawwell doctor", check=False)
    fleet.start_database()
    wait_until(lambda: ready(fleet.b), "it serves")


def test_the_owner_s_file_can_be_missing(fleet: Fleet) -> None:
    """Without it a broker serves, and does not invite; with it, it does."""
    owner, invite = "/etc/drawwell/fleet-owner", "drawwell consumer invite web03"
    fleet.a.run("mv", owner, "/root/kept")
    fleet.a.run("systemctl", "restart", BROKER)
    wait_until(lambda: ready(fleet.a), "it serves")
    assert "does not have the role of the fleet's owner" in type_line(fleet.a, invite, check=False)
    fleet.a.run("mv", "/root/kept", owner)
    fleet.a.run("systemctl", "restart", BROKER)
    wait_until(lambda: ready(fleet.a), "it serves")
    type_line(fleet.a, invite)


def test_a_purge_leaves_no_unit(fleet: Fleet) -> None:
    """The unit's settings of a fleet are removed with the configuration."""
    places = "/etc/systemd/system/drawwell-broker.service.d", "/etc/drawwell", "/var/lib/drawwell"
    fleet.b.run("ls", "-d", *places)
    fleet.b.run("apt-get", "purge", "--yes", "drawwell")
    assert fleet.b.run("ls", "-d", *places, check=False).stdout.count("No such file") == len(places)
