"""The commands in docs/keys.md against thieves, typed as on the page."""

import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from drawwell.cli.parser import parse
from drawwell.crypto import pki
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import AuthenticationFailed, LinkUnavailable
from drawwell.links.identity import LinkIdentity, load
from drawwell.testing.waiting import wait_until
from support.daemon import StickThread
from support.signing import Host
from support.station import Site
from unit.enrolment.test_key_ring import CSR, openssl_accepts

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def remedies() -> dict[str, list[list[str]]]:
    """Return the commands of each row, without ``drawwell``."""
    table = PAGE.read_text().split("## What to do if a key was stolen")[1]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return {row[0]: _commands(row[2]) for row in rows[2:]}


def _commands(cell: str) -> list[list[str]]:
    quoted = [text.split() for text in re.findall(r"`([^`]+)`", cell)]
    whole = [typed[1:] if typed[0] == "drawwell" else ["pki", *typed] for typed in quoted]
    return [typed for typed in whole if "/" not in typed[-1]]


def test_each_command_against_a_thief_is_one() -> None:
    """Each row except "root" has commands, and the parser accepts them."""
    rows = remedies()
    assert {name for name, commands in rows.items() if not commands} == {"root"}
    for typed in (typed for commands in rows.values() for typed in commands):
        assert parse(typed).run


class Thief:
    """Copies of all keys of a host, and of one consumer."""

    def __init__(self, host: Host, consumer: LinkIdentity) -> None:
        self._folder = host.folder
        for name in ("state-signer", "state/pki", consumer.consumer):
            shutil.copytree(host.folder / name, host.folder / "stolen" / name)
        self.consumer = load(str(host.folder / "stolen" / consumer.consumer))
        self.ring = KeyRing(str(host.folder / "stolen" / "state-signer"), "well", time.time())

    def server(self) -> bytes:
        return (self._folder / "stolen/state/pki/server.pem").read_bytes()

    def misleads(self, victim: LinkIdentity) -> list[bool]:
        """Return whether a consumer accepts a new and the stolen certificate."""
        pinned, now = Path(victim.ca_path).read_bytes(), time.time()
        chains = (self.ring.serve(CSR, ["well"], now), self.server())
        return [openssl_accepts(self._folder, pinned, chain, now) for chain in chains]


@pytest.mark.slow
@needs_openssl
def test_the_commands_of_the_page_lock_thieves_out(folder: Path) -> None:
    """After each row's commands the stolen key does only what the page allows."""
    host, rows = Host(Site(folder)), remedies()
    with StickThread(folder / "stick", rate=0), host.running():
        victim, consumer = host.join("web01"), host.join("web02")
        thief = Thief(host, consumer)
        host.proved(thief.consumer)
        type_all(host, rows["a consumer's key"], victim, NAME="web02")
        with pytest.raises((AuthenticationFailed, LinkUnavailable)):
            host.draw(thief.consumer)
        host.proved(host.join("web02"))

        type_all(host, rows["receipts"], victim)
        host.proved(victim)
        present = pki.pem_blocks(Path(victim.receipt_key_path).read_bytes())[0]
        assert present != thief.ring.public().receipt_key

        type_all(host, rows["server, enrol"], victim)
        assert pki.spki_sha256(thief.server()) != pki.spki_sha256(server_of(host))
        assert thief.misleads(victim) == [True, True]

        type_all(host, rows["intermediate"], victim)
        assert thief.misleads(victim) == [False, False]
        host.proved(victim)


@pytest.mark.slow
@needs_openssl
def test_after_a_stolen_root_every_machine_joins_again(folder: Path) -> None:
    """With the directory moved away, a consumer that joins again is safe."""
    host = Host(Site(folder))
    with StickThread(folder / "stick", rate=0):
        with host.running():
            victim = host.join("web01")
            thief = Thief(host, victim)
        (folder / "state-signer").rename(folder / "away")
        with host.running():
            assert thief.misleads(victim) == [True, True]
            joined = host.join("web01")
            assert thief.misleads(joined) == [False, False]
            host.proved(joined)
            with pytest.raises((AuthenticationFailed, LinkUnavailable)):
                host.draw(thief.consumer)


def server_of(host: Host) -> bytes:
    return (host.folder / "state/pki/server.pem").read_bytes()


def type_all(host: Host, commands: list[list[str]], victim: LinkIdentity, **names: str) -> None:
    """Type a row's commands; another consumer renews after each of them."""
    for typed in commands:
        host.typed(*(names.get(part, part) for part in typed))
        times = host.broker.output.count("reloaded the config")
        host.broker.send(signal.SIGHUP)
        wait_until(
            lambda times=times: host.broker.output.count("reloaded the config") > times, "the broker follows"
        )
        host.renew(victim)
