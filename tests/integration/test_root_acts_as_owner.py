"""In another user's directories root works with that user's rights.

The user here wins each race, because an audit hook runs before each access to a file.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drawwell.config.consumer_side import UpstreamSection
from drawwell.crypto import pki
from drawwell.errors import DrawwellError
from drawwell.links.identity import LINKS, Staging, load_all
from drawwell.links.renewal import renew_if_due
from drawwell.roles.make_links_and_sinks import make_upstream
from drawwell.state.files import make_private_directory, read_file, read_secret, replace_file
from drawwell.testing.waiting import DEADLINE_S, wait_until
from drawwell.wire.brokers import KnownBroker, KnownBrokers
from drawwell.wire.enrolment import JoinReply
from support.daemon import environment
from support.station import Site, running

SERVICE = 4242
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and a user who is not"),
]


class Renewing:
    """A broker that renews, as much of an Upstream as `renew_if_due` needs."""

    def __init__(self, authority: pki.KeyPair) -> None:
        self._authority = authority

    name = "well"

    async def call(self, verb: str, args: dict[str, str]) -> dict[str, Any]:
        """Issue the requested certificate, and name the brokers."""
        if verb == "brokers":
            return KnownBrokers("", (KnownBroker("well", ("well:55000",)),)).document()
        issued = pki.issue_client(self._authority, args["csr"].encode(), "web01", time.time())
        return {"certificate": issued.decode()}


AUTHORITY = pki.new_ca("well", time.time())


def join(state: str) -> None:
    """Perform the file operations of joining."""
    staging = Staging(f"{state}/{LINKS}/well", force=True)
    certificate = pki.issue_client(AUTHORITY, staging.csr_pem, "web01", time.time()).decode()
    ca = AUTHORITY.certificate_pem.decode()
    staging.finish(JoinReply("web01", certificate, ca, "well", ("well:55000",), "", "", "full", "key"))


def renew(state: str) -> None:
    """Perform the file operations of renewing, and show the link."""
    for identity in load_all(f"{state}/{LINKS}"):
        asyncio.run(renew_if_due(Renewing(AUTHORITY), identity, time.time(), force=True))  # type: ignore[arg-type]


def connect(state: str) -> None:
    """Read the files that a link needs."""
    link = make_upstream(UpstreamSection(url="tls://well:55000", identity=""), f"{state}/{LINKS}")
    link._context()  # type: ignore[attr-defined]


def write(state: str) -> None:
    """Perform the file operations of all state."""
    make_private_directory(f"{state}/{LINKS}/deep")
    replace_file(f"{state}/{LINKS}/deep/file", b"ours")
    read_file(f"{state}/{LINKS}/deep/file")
    read_secret(f"{state}/{LINKS}/deep/file")


class Racer:
    """Swaps directories for links to root's before access number `swap_at`."""

    def __init__(self, state: Path, prize: Path) -> None:
        self.state, self.prize = state, prize
        self.accesses, self.swap_at = 0, -1

    def __call__(self, _event: str, args: tuple[object, ...]) -> None:
        """Count an access below the state (sys.addaudithook)."""
        for path in filter(lambda each: isinstance(each, str), args):
            if str(path).startswith(f"{self.state}/"):
                self.accesses += 1
                if self.accesses == self.swap_at:
                    self.swap(Path(str(path)))
                return

    def swap(self, path: Path) -> None:
        """Replace the file, and each directory that its owner can rename."""
        for place in (path, *path.parents):
            if place == self.state:
                return
            if place.exists() or place == path:
                with contextlib.suppress(OSError):
                    os.rename(place, f"{place}.away")
                os.symlink(self.prize / "secret" if place.suffix in {".pem", ".json"} else self.prize, place)


_racing: list[Racer] = []


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _racing:
        racer = _racing.pop()
        try:
            racer(event, args)
        finally:
            _racing.append(racer)


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    """Add the hook; it stays installed, but is idle between these tests."""
    sys.addaudithook(_hook)


def facts(prize: Path) -> list[tuple[object, ...]]:
    """Return root's view of its own files."""
    found = [prize, *sorted(prize.iterdir())]
    return [(path, path.lstat().st_uid, path.lstat().st_mode) for path in found] + [
        (path.read_bytes(),) for path in found[1:]
    ]


@contextlib.contextmanager
def race(folder: Path, number: int) -> Iterator[Racer]:
    """Create a state directory of the service, and a target of root."""
    place = folder / str(number)
    state, prize = place / "state", place / "prize"
    for each in (place, state, prize):
        each.mkdir(0o755)
    for name in ("secret", "key.pem", "cert.pem", "link.json", "file"):
        (prize / name).write_text("root's")
        (prize / name).chmod(0o600)
    os.chown(state, SERVICE, SERVICE)
    racer = Racer(state, prize)
    before = facts(prize)
    yield racer
    assert facts(prize) == before, f"access {racer.swap_at} was won"


@pytest.mark.parametrize("verb", [join, renew, connect, write])
def test_a_user_who_wins_every_race_gains_nothing(folder: Path, verb: Callable[[str], None]) -> None:
    """Root's files are unchanged, whichever access follows the swap."""
    folder.chmod(0o755)
    number = accesses = 0
    while number <= accesses:  # race 0 swaps nothing but counts accesses
        with race(folder, number) as racer:
            if verb in {renew, connect}:
                join(str(racer.state))
            racer.swap_at = number or -1
            _racing.append(racer)
            try:
                with contextlib.suppress(DrawwellError, OSError) if number else contextlib.nullcontext():
                    verb(str(racer.state))
            finally:
                _racing.clear()
            accesses = max(accesses, racer.accesses if number == 0 else 0)
            number += 1
    assert accesses >= 3


WATCH = """
import os, runpy, sys
state = sys.argv.pop(1)
def watch(event, args):
    for path in args:
        if os.geteuid() == 0 and isinstance(path, str) and path.startswith(state + "/"):
            os.write(2, f"AS ROOT: {event} {path}\\n".encode())
sys.addaudithook(watch)
sys.argv[0] = "drawwell"
runpy.run_module("drawwell", run_name="__main__")
"""


def watched(
    state: Path, config: Path, *arguments: str, text: str = "", until: Path | None = None
) -> tuple[int, str]:
    """Run a command to completion, or `until` a file exists.

    Returns its exit code and standard error, which has each access below `state` as root.
    """
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, str(state), *arguments],
        env=environment(config), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        if until:
            wait_until(lambda: process.poll() is not None or until.exists(), "it serves")
            process.terminate()
        _, said = process.communicate(text, timeout=DEADLINE_S)
        return process.returncode, said


def test_no_verb_touches_a_users_directory_as_root(folder: Path) -> None:
    """Every command that root can type leaves the service's files unchanged."""
    folder.chmod(0o755)
    site, state, config = Site(folder, sticks=()), folder / "machine", folder / "machine.toml"
    site.write('[[source]]\nname = "noise"\ndriver = "replay"\npath = "/dev/null"\n')
    config.write_text(f'[broker]\nstate_dir = "{state}"\nrun_dir = "{folder}/machine-run"\n')
    state.mkdir()
    os.chown(state, SERVICE, SERVICE)
    verbs = (
        ("renew", "--force"), ("draw", "--via", "well", "16", "--hex"), ("draw", "16", "--hex"), ("status",),
        ("doctor",), ("config", "check"), ("renew", "nowhere"), ("run",),
    )  # fmt: skip

    async def run() -> list[str]:
        async with running(site):
            token = (await site.ask("consumer.invite", {"name": "web01"}))["token"]
            code, said = await asyncio.to_thread(
                watched, state, config, "join", "-", "--name", "well", text=token
            )
            assert code == 0, said
            config.write_text(config.read_text() + f'[[upstream]]\nurl = "tls://{site.tls}"\n')
            link = partial(watched, until=folder / "machine-run" / "link.sock")
            runs = [partial(watched, state, config, *verb) for verb in verbs]
            runs.append(partial(link, state, config, "link", "run"))
            return [said] + [(await asyncio.to_thread(run))[1] for run in runs]

    said = asyncio.run(run())
    assert [line for text in said for line in text.splitlines() if "AS ROOT" in line] == []
    assert {path.stat().st_uid for path in state.rglob("*")} == {SERVICE}
