"""One broker becomes a fleet by the commands in docs/fleet.md."""

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from drawwell.testing.waiting import wait_until
from support.daemon import StickThread
from support.documents import ROOT
from support.machines import Machine
from support.postgres import Pair, pair, require_postgres
from system.test_newcomer import program

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for machines of their own"),
]
SITES = ("site-a", "site-b", "site-c")


def typed(command: str) -> list[tuple[str, str]]:
    """Return machine and command of each step on the page."""
    text = (
        (ROOT / "docs" / "fleet.md")
        .read_text()
        .split("\n## Three sites in five commands\n")[1]
        .split("\n## ")[0]
    )
    return re.findall(rf"^(site-[abc])# (drawwell {command}.*)$", text, re.MULTILINE)


(INIT,), (INVITE,), (INVITE_CONSUMER,), (STATUS,) = (
    typed(command) for command in ("fleet init", "fleet invite", "consumer invite", "fleet status")
)
JOINS = typed("fleet join")
QUOTA = 10 << 20
ADDRESSES = {name: f"10.9.{number}.2" for number, name in enumerate((*SITES, "old01", "web01"), 1)}


class SiteMachine:
    """A machine with signer, broker and source."""

    def __init__(self, machine: Machine, folder: Path, stick: Path) -> None:
        self.machine, self.folder = machine, folder
        machine.write(
            "/etc/drawwell/drawwell.toml",
            f'[tls]\nlisten = "*:55000"\nnames = ["{machine.name}.example.org"]\n'
            f'[[source]]\nname = "stick"\ndriver = "onerng"\npath = "{stick}"\n',
        )
        self.signer = self._start("signer", "listening on")  # wording: a name

    def _start(self, role: str, until: str, *more: str) -> "object":
        log = self.folder / f"{self.machine.name}-{role}.log"
        log.write_text("")
        return self.machine.start("drawwell", role, "run", *more, log=log, until=until)

    def start(self) -> None:
        """Start broker and source, and wait until draws are served."""
        self.broker = self._start("broker", "")
        self.source = self._start("source", "healthy", "stick")
        wait_until(self._is_ready, f"{self.machine.name} serves")

    def _is_ready(self) -> bool:
        status = self.machine.sh("drawwell status --json", check=False).stdout
        return bool(status and json.loads(status)["ready"])

    def has_served(self, consumer: str) -> bool:
        status = json.loads(self.machine.sh("drawwell status --json").stdout)
        return any(each["name"] == consumer and each["drbg_bytes"] for each in status["consumers"])

    def notes(self) -> str:
        """Return the notes of its status."""
        return " ".join(json.loads(self.machine.sh("drawwell status --json").stdout)["notes"])

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop both."""
        for process in (self.source, self.broker):
            process.send_signal(number)
            process.wait()


class Scene:
    """Three sites, two consumers, and a machine between them."""

    def __init__(self, folder: Path, stack: ExitStack, database: Pair) -> None:
        self.folder, self.database = folder, database
        self.owner = self._make_owner()
        path = f"{program(folder).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
        env = {"PATH": path, "HOME": "/root", "LANG": "C"}
        names = ["net", *ADDRESSES]
        machines = {name: stack.enter_context(Machine(name, folder / name, env)) for name in names}
        net = machines["net"]
        net.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
        hosts = "".join(f"{address} {name}.example.org\n" for name, address in ADDRESSES.items())
        for name, address in ADDRESSES.items():
            gateway = address[:-1] + "1"
            net.wire(machines[name], f"{gateway}/24", f"{address}/24")
            machines[name].sh(f"ip route add default via {gateway}")
            machines[name].write("/etc/hosts", f"127.0.0.1 localhost\n{hosts}")
        self.old01, self.web01 = machines["old01"], machines["web01"]
        sticks = {name: folder / f"stick-{name}" for name in SITES}
        for stick in sticks.values():
            stack.enter_context(StickThread(stick, rate=0))
        self.sites = {name: SiteMachine(machines[name], folder, sticks[name]) for name in SITES}

    def type(self, line: tuple[str, str], text: str = "", *, check: bool = True) -> str:
        """Run a command from the page, and return its output."""
        site, command = line
        done = self.sites[site].machine.sh(command, check=check, input=text)
        return done.stdout or done.stderr

    def _make_owner(self) -> str:
        """Create the owner's role and database; return the address."""
        first = self.database.primary
        first.sql("CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'a:secret'")
        first.sql("CREATE DATABASE drawwell OWNER owner")
        rules = "local all postgres trust\nlocal replication all trust\nlocal all owner scram-sha-256\n"
        rules += "local drawwell +drawwell_broker scram-sha-256\n"
        for server in self.database:
            (server.data / "pg_hba.conf").write_text(
                f"{rules}host all all 127.0.0.0/8 trust\nhost replication all 127.0.0.0/8 trust\n"
            )
            server.sql("SELECT pg_reload_conf()")
        homes = ",".join(str(server.home) for server in self.database)
        return f"host={homes} dbname=drawwell user=owner password='a:secret'"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    require_postgres()
    folder = tmp_path_factory.mktemp("sites")
    for each in (folder, *folder.parents):
        if each.stat().st_uid == os.geteuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    with pair() as database, ExitStack() as stack:
        try:
            found = Scene(folder, stack, database)
        except OSError as reason:
            pytest.skip(str(reason))
        yield found


def joined(token: str, consumer: Machine) -> None:
    consumer.sh("drawwell join", input=f"{token}\n")


def drawn(machine: Machine, amount: str, wait: str = "20s", *, check: bool = True) -> int:
    """Draw bytes of class drbg, and return the number received."""
    done = machine.sh(f"drawwell draw {amount} --class drbg --wait {wait} | wc -c", check=False)
    assert not check or int(done.stdout), done.stderr
    return int(done.stdout)


def test_the_lines_of_the_page(scene: Scene) -> None:
    """An old consumer keeps drawing, a quota holds in sum, a broker may die."""
    first = scene.sites["site-a"]
    first.start()
    joined(first.machine.sh("drawwell consumer invite old01").stdout.strip(), scene.old01)
    assert drawn(scene.old01, "32") == 32
    three_sites(scene)
    status = "site-a", STATUS[1]
    wait_until(lambda: set(SITES) <= set(scene.type(status, check=False).split()), "all are seen")
    joined(scene.type(INVITE_CONSUMER).strip(), scene.web01)
    total = sum(prefer_and_draw(scene.web01, name) for name in (*SITES, *SITES))
    assert QUOTA * 7 // 8 <= total <= QUOTA
    assert all(site.has_served("web01") for site in scene.sites.values())
    assert set(SITES) <= set(scene.type(STATUS, check=False).split())
    scene.old01.sh("drawwell renew --force")
    assert "removed site-c from fleet" in scene.type(("site-a", "drawwell fleet remove site-c --running"))
    wait_until(lambda: "pg_hba.conf" in scene.sites["site-c"].notes(), "site-c is refused")
    first.stop(signal.SIGKILL)
    assert drawn(scene.old01, "32") == 32


def three_sites(scene: Scene) -> None:
    """Run the commands on the page, each twice, and all joins at once."""
    first = scene.sites["site-a"]
    assert "Stop the broker" in scene.type(INIT, f"{scene.owner}\n", check=False)
    first.stop()
    for _ in range(2):
        scene.type(INIT, f"{scene.owner}\n")
    first.start()
    assert drawn(scene.old01, "32") == 32
    lines = scene.type(INVITE).splitlines()
    joins = 2 * list(zip(JOINS, lines, strict=True))
    with ThreadPoolExecutor(len(joins)) as pool:
        list(pool.map(lambda each: scene.type(each[0], f"{each[1]}\n"), joins))
    for site, _ in JOINS:
        scene.sites[site].start()


def prefer_and_draw(machine: Machine, name: str) -> int:
    path = "/etc/drawwell/conf.d/site-a.example.org.toml"
    machine.sh(f"sed -i '/prefer/d; s/^identity.*/&\\nprefer = \"{name}\"/' {path}")
    return drawn(machine, "2MiB", "1s", check=False)
