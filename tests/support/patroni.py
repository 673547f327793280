"""Two servers, managed by Patroni with etcd (all from Debian)."""

import contextlib
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from drawwell.testing.waiting import wait_until
from support.postgres import PROGRAMS, FleetDatabase, Server, make_database, new_home
from support.station import own_address

DCS: Final = {
    "ttl": 20,  # its least
    "loop_wait": 1,
    "retry_timeout": 3,  # short: Patroni's, of its calls to etcd
    "synchronous_mode": True,
    "synchronous_mode_strict": True,
    "postgresql": {"use_pg_rewind": False, "parameters": {"fsync": "off", "max_connections": 60}},
}


class PatroniNode:
    """A server that Patroni starts, promotes and demotes."""

    def __init__(self, home: Path, name: str, etcd: str) -> None:
        self.name = name
        self.server = Server(home)
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        trust = ["local all all trust", "host all all all trust", "host replication all all trust"]
        document: dict[str, Any] = {
            "scope": "fleet",
            "name": name,
            "restapi": {"listen": f"{self.server.host}:8008", "connect_address": f"{self.server.host}:8008"},
            "etcd3": {"host": etcd},
            "bootstrap": {"dcs": DCS, "initdb": [{"encoding": "UTF8"}, {"locale": "C"}], "pg_hba": trust},
            "postgresql": {
                "listen": f"{self.server.host}:5432",
                "connect_address": f"{self.server.host}:5432",
                "data_dir": str(self.server.data),
                "bin_dir": str(PROGRAMS),
                "pgpass": str(home / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "postgres"},
                },
                "parameters": {"unix_socket_directories": str(home)},
                "pg_hba": trust,
                "remove_data_directory_on_diverged_timelines": True,
                "remove_data_directory_on_rewind_failure": True,
            },
        }
        (home / "patroni.yml").write_text(json.dumps(document))

    def start(self) -> None:
        """Start Patroni, which manages the server from then on."""
        self._process = start_as_postgres("patroni", str(self._home / "patroni.yml"), log=self._home / "log")

    def kill(self) -> None:
        """Kill Patroni and its server with SIGKILL, like a power cut."""
        if self._process:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(FileNotFoundError):
            self.server.kill()

    def members(self) -> dict[str, str]:
        """Return the role of each node by name, or {} if this node is down."""
        try:
            with urllib.request.urlopen(f"http://{self.server.host}:8008/cluster") as answer:
                return {each["name"]: each["role"] for each in json.load(answer)["members"]}
        except (OSError, KeyError):
            return {}


class PatroniPair:
    """Two nodes: a primary and its synchronous standby."""

    def __init__(self, nodes: list[PatroniNode]) -> None:
        self.nodes = nodes

    def primary(self) -> PatroniNode | None:
        """Return the node that reports to be the primary."""
        return next((node for node in self.nodes if node.members().get(node.name) == "leader"), None)

    def complete(self) -> bool:
        """Return whether Patroni has registered a synchronous standby."""
        primary = self.primary()
        return primary is not None and "sync_standby" in primary.members().values()

    def fail(self) -> None:
        """Kill the primary, wait for the takeover, restart the killed node."""
        wait_until(self.complete, "a synchronous standby")
        old = self.primary()
        assert old
        old.kill()
        wait_until(lambda: self.primary() not in {None, old}, "Patroni promotes the standby")
        old.start()
        wait_until(self.complete, "the killed one is a standby")

    def database(self) -> FleetDatabase:
        """Create a database with the fleet's schema on both nodes."""
        primary = self.primary()
        assert primary
        return make_database(",".join(node.server.host for node in self.nodes))


@contextlib.contextmanager
def patroni_pair() -> Iterator[PatroniPair]:
    """Run two nodes until the block ends."""
    for program in ("patroni", "etcd"):
        if not Path("/usr/bin", program).exists():
            pytest.skip(f"{program} is not installed: apt install patroni etcd-server")
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(_etcd(stack.enter_context(new_home())))
        nodes = [PatroniNode(stack.enter_context(new_home()), name, etcd) for name in ("one", "two")]
        pair = PatroniPair(nodes)
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        wait_until(pair.complete, "a primary and its synchronous standby")
        yield pair


@contextlib.contextmanager
def _etcd(home: Path) -> Iterator[str]:
    client, peer = (f"http://{own_address()}:{port}" for port in (2379, 2380))
    options = {
        "name": "one",
        "data-dir": str(home / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"one={peer}",
    }
    flags = [f"--{key}={value}" for key, value in options.items()]
    process = start_as_postgres("etcd", *flags, log=home / "log")
    try:
        yield client.removeprefix("http://")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def start_as_postgres(program: str, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
    """Start a program as user postgres if the tests run as root."""
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(log.parent), "LC_ALL": "C"}
    with log.open("ab") as output:
        return subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            cwd="/", env=environment, **user,
        )  # fmt: skip
