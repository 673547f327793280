"""A real PostgreSQL from Debian's packages, alone or with a standby.

It runs as user postgres if the tests run as root. It does not touch Debian's own clusters.
"""

import contextlib
import itertools
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from drawwell.fleet.schema import install
from drawwell.testing.waiting import wait_until
from lab.cache import or_skip, program
from lab.roots import chroot
from support.station import own_address


def _programs(root: Path) -> Path:
    return max((root / "usr/lib/postgresql").glob("*/bin"), default=root / "usr/lib/postgresql")


PROGRAMS: Final = _programs(Path("/"))
OWNER: Final = "drawwell_owner"
_SETTINGS: Final = {
    "fsync": "off",  # the tests kill the process, never the machine
    "max_connections": "60",
    "shared_buffers": "16MB",
    "logging_collector": "off",
    "wal_keep_size": "64MB",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "100ms",
}
_numbers: Final = itertools.count(1)


@dataclass(frozen=True)
class FleetDatabase:
    """A database with the fleet's schema: its address by the owner's role.

    `role` is that of all brokers.
    """

    owner: str
    role: str
    _brokers: dict[str, str] = field(default_factory=dict)

    @property
    def broker(self) -> str:
        """The address by the role of site-a."""
        return self.of("site-a")

    def of(self, broker: str) -> str:
        """Return the address by the role of a broker, which is made."""
        if broker not in self._brokers:
            with psycopg.connect(self.owner, autocommit=True) as owner:
                made = owner.execute("SELECT drawwell.admit_broker(%s, 'any')", (broker,)).fetchone()
            assert made
            self._brokers[broker] = make_conninfo(self.owner, user=made[0])
        return self._brokers[broker]


class Server:
    """A server in the folder `home`, on its own loopback address.

    Args:
        home: Its folder, the same in `root`.
        root: The Debian whose programs run.
        settings: Settings of postgresql.conf.
    """

    def __init__(self, home: Path, root: Path = Path("/"), **settings: str) -> None:
        self.home, self._root = home, root
        self.data = home / "data"
        self.host = own_address()
        self._settings = {**_SETTINGS, **settings}

    @property
    def superuser(self) -> str:
        """The address of the database postgres for the superuser."""
        return self.address("postgres", "postgres")

    def address(self, database: str, user: str) -> str:
        """Return the address of a database, over TCP."""
        return f"host={self.host} port=5432 dbname={database} user={user}"

    def create(self) -> None:
        """Create an empty cluster."""
        self._run(
            "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--locale=C",
        )

    def copy(self, primary: "Server", name: str) -> None:
        """Make this server a standby of `primary`."""
        source = f"{primary.superuser} application_name={name}"
        self._run(
            "pg_basebackup", "-D", self.data, "-d", source, "-R", "--no-sync", "-c", "fast", "-X", "stream"
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = {**self._settings, "listen_addresses": self.host, "unix_socket_directories": str(self.home)}
        line = " ".join(f"-c {key}='{value}'" for key, value in options.items())
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.home / "log", "-o", line)

    def stop(self) -> None:
        """Stop the server immediately if it is running."""
        with contextlib.suppress(FileNotFoundError):
            self.resume()
            self.kill()

    def kill(self) -> None:
        """Kill all processes with SIGKILL and wait until they are gone."""
        doomed = self._processes()
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in doomed:
            _wait_for_the_end_of(pid)
        for lock in (self.data / "postmaster.pid", self.home / ".s.PGSQL.5432.lock"):
            lock.unlink(missing_ok=True)  # its process may be a zombie

    def pause(self) -> None:
        """Stop all processes with SIGSTOP; their connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume all processes."""
        self._signal(signal.SIGCONT)

    def cpu_s(self) -> float:
        """Return the CPU seconds of all processes (proc_pid_stat(5))."""
        stats = []
        for pid in self._processes():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a worker may have ended
                stats.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split())
        own = sum(int(ticks) for fields in stats for ticks in fields[11:13])
        return (own + sum(map(int, stats[0][13:15]))) / os.sysconf("SC_CLK_TCK")

    def serve_tls(self, certificate: str, key: str) -> None:
        """Offer TLS with a certificate."""
        for name, path in (("server.crt", certificate), ("server.key", key)):
            target = self.data / name
            target.touch(0o600)
            target.write_bytes(Path(path).read_bytes())
            shutil.chown(target, self.data.owner(), self.data.group())
        self.sql("ALTER SYSTEM SET ssl = on")
        self.sql("SELECT pg_reload_conf()")
        wait_until(lambda: self.sql("SHOW ssl") == [("on",)], "TLS is on")

    def follow_synchronously(self, name: str) -> None:
        """Make each commit wait for the standby with that name."""
        self.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        self.sql("SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Promote a standby to a primary that does not wait for a standby."""
        self._run("pg_ctl", "promote", "-w", "-D", self.data)

    def sql(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a query as the superuser."""
        with psycopg.connect(self.address(database, "postgres"), autocommit=True) as db:
            cursor = db.execute(query)
            return cursor.fetchall() if cursor.description else []

    def database(self, fleet: str = "test") -> FleetDatabase:
        """Create a database with the fleet's schema."""
        return make_database(self.host, fleet)

    def _run(self, name: str, *arguments: object) -> None:
        command = ["chroot", "--userspec=postgres:postgres", self._root] if os.geteuid() == 0 else []
        path = Path("/") / _programs(self._root).relative_to(self._root) / name
        with tempfile.TemporaryFile() as output:  # the server would keep a pipe open
            done = subprocess.run(
                [*map(str, [*command, path, *arguments])], stdout=output, stderr=output, cwd="/", check=False
            )
            output.seek(0)
            assert done.returncode == 0, f"{name}: {output.read().decode()}"

    def _processes(self) -> list[int]:
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children")
        return [first, *map(int, children.read_text().split() if children.exists() else ())]

    def _signal(self, number: int) -> None:
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class Pair(NamedTuple):
    """A primary and its standby."""

    primary: Server
    standby: Server

    def turned(self) -> "Pair":
        """Turn the dead primary into a standby of the promoted server."""
        old, new = self
        shutil.rmtree(old.data)
        old.copy(new, "standby")
        old.start()
        new.follow_synchronously("standby")
        return Pair(new, old)

    def database(self, fleet: str = "test") -> FleetDatabase:
        """Create a database with the fleet's schema on both servers."""
        return make_database(f"{self.primary.host},{self.standby.host}", fleet)


def make_database(hosts: str, fleet: str = "test") -> FleetDatabase:
    """Create a database with the fleet's schema on the writable host."""
    name = f"fleet{os.getpid()}_{next(_numbers)}"
    place = f"host={hosts} port=5432 target_session_attrs=read-write"
    with psycopg.connect(f"{place} dbname=postgres user=postgres", autocommit=True) as db:
        if not db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (OWNER,)).fetchone():
            db.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE")
        db.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
    made = FleetDatabase(f"{place} dbname={name} user={OWNER}", name)
    with psycopg.connect(made.owner, autocommit=True) as owner:
        install(owner, fleet, made.role)
    assert made.broker  # while a standby confirms it
    return made


@contextlib.contextmanager
def server(root: Path = Path("/"), **settings: str) -> Iterator[Server]:
    """Run a server until the block ends; see `Server`."""
    with new_home() as home:
        one = Server(home, root, **settings)
        one.create()
        one.start()
        try:
            yield one
        finally:
            one.stop()


@contextlib.contextmanager
def pair(root: Path = Path("/"), *, synchronous: bool = True) -> Iterator[Pair]:
    """Run a primary and its standby until the block ends; see `Server`."""
    with server(root) as primary, new_home() as home:
        standby = Server(home, root)
        standby.copy(primary, "standby")
        standby.start()
        try:
            if synchronous:
                primary.follow_synchronously("standby")
            yield Pair(primary, standby)
        finally:
            standby.stop()


def require_postgres() -> None:
    """Skip the test if PostgreSQL is not installed."""
    if not (PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL is not installed: apt install postgresql")


@contextlib.contextmanager
def debian_13() -> Iterator[Path]:
    """Make a Debian 13 with PostgreSQL that shares /tmp with this one."""
    with or_skip(), chroot("trixie", ("postgresql",)) as root:
        account = pwd.getpwnam("postgres")
        root.run("groupmod", "--non-unique", "--gid", str(account.pw_gid), "postgres")
        root.run("usermod", "--non-unique", "--uid", str(account.pw_uid), "postgres")
        program("mount", "--bind", "/tmp", root.path / "tmp")
        try:
            yield root.path
        finally:
            program("umount", root.path / "tmp")


@contextlib.contextmanager
def new_home() -> Iterator[Path]:
    """Create a folder that belongs to PostgreSQL's user."""
    home = Path(tempfile.mkdtemp(prefix="dw-pg-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(home, account.pw_uid, account.pw_gid)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _wait_for_the_end_of(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        end = os.pidfd_open(pid)
        try:
            select.select([end], [], [])
        finally:
            os.close(end)
