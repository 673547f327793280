"""Draws over SSH with real sshd and ssh: identities and permissions."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, LinkUnavailable, PermissionRefused
from drawwell.links.ssh import SshLink
from drawwell.testing.waiting import wait_until
from integration.ssh_well import SSHD, Well, account_of, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SSHD or not shutil.which("ssh"), reason="OpenSSH's server or client is not here"),
]


@pytest.fixture(scope="module")
def well() -> Iterator[Well]:
    with tempfile.TemporaryDirectory(prefix="dw-") as name:
        well = Well(Path(name))
        with well.undo:
            well.build()
            well.invite("web01", "--quota", "4KiB/day")
            well.invite("db01")
            yield well


def test_key_draws_as_its_consumer(well: Well) -> None:
    """Every grant over SSH is charged to the key's consumer."""

    async def run() -> None:
        async with contextlib.aclosing(well.link("db01")) as link:
            assert (await link.welcome()).consumer == "db01"
            before = account_of(well, "db01")["full_bytes"]
            grants = [await link.draw(n, DrawClass.FULL) for n in (1, 32, 4096)]
            assert [len(grant.data) for grant in grants] == [1, 32, 4096]
            assert account_of(well, "db01")["full_bytes"] - before == 4129

    asyncio.run(run())


def test_wrong_host_key_is_not_talked_to(well: Well) -> None:
    """Another host key than the known one ends the session before any data."""

    async def run() -> None:
        async with contextlib.aclosing(well.link("db01")) as link:
            link._command[1:1] = ["-oUserKnownHostsFile=/dev/null"]
            with pytest.raises(AuthenticationFailed, match="Host key verification failed"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_host_that_is_not_there_is_said() -> None:
    """A closed port is an unavailable link, with ssh's own message."""

    async def run() -> None:
        nowhere = SshLink("ssh://nowhere", "127.0.0.1", port=free_port(), options=("-F", "none"))
        async with contextlib.aclosing(nowhere) as link:
            with pytest.raises(LinkUnavailable, match="refused"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_revoked_consumer_is_refused_in_its_open_session(well: Well) -> None:
    """A revocation refuses the next draw and session, whatever sshd allows."""
    well.make_key("gone01")
    well.invite("gone01")

    async def run() -> None:
        async with contextlib.aclosing(well.link("gone01")) as link:
            assert (await link.draw(32, DrawClass.FULL)).data
            assert well.run("consumer", "revoke", "gone01").returncode == 0
            with pytest.raises((PermissionRefused, LinkUnavailable)):
                await link.draw(32, DrawClass.FULL)
            with pytest.raises(PermissionRefused):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_revoked_key_stays_out_when_its_consumer_gets_a_new_one(well: Well) -> None:
    """With both lines authorized, only the new key can draw."""
    for name in ("stolen", "fresh"):
        well.make_key(name)
    well.invite("web02", key="stolen")
    assert well.run("consumer", "revoke", "web02").returncode == 0
    well.invite("web02", key="fresh")

    async def run() -> None:
        async with contextlib.aclosing(well.link("stolen")) as stolen:
            with pytest.raises(PermissionRefused, match="may not use this key"):
                await stolen.draw(32, DrawClass.FULL)
        async with contextlib.aclosing(well.link("fresh")) as fresh:
            assert (await fresh.welcome()).consumer == "web02"

    asyncio.run(run())


def ssh_on_the_path(well: Well) -> dict[str, str]:
    """Return an environment in which ssh knows the host."""
    program = well.folder / "bin" / "ssh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {well.folder}/ssh_config "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_command_line_draws_over_ssh(well: Well) -> None:
    """`draw --via ssh://` runs the ssh on the PATH and prints the bytes."""
    with (well.folder / "ssh_config").open("a") as config:
        config.write(f"Match host 127.0.0.1\nIdentityFile {well.folder}/db01\n")
    url = f"ssh://{well.account}@127.0.0.1:{well.port}"

    done = well.run("draw", "16", "--hex", "--via", url, env=ssh_on_the_path(well))
    assert (done.returncode, len(done.stdout.strip())) == (0, 32), done.stderr


def test_machine_that_draws_over_ssh_streams(well: Well) -> None:
    """`run` with an ssh upstream streams to its sink, and ends its ssh."""
    target, config = well.folder / "streamed", well.folder / "consumer.toml"
    config.write_text(
        f'[broker]\nstate_dir = "{well.folder}/consumer"\nrun_dir = "{well.folder}/consumer-run"\n'
        f'[[upstream]]\nurl = "ssh://{well.account}@127.0.0.1:{well.port}"\nidentity = "{well.folder}/db01"\n'
        f'[[sink]]\nkind = "file"\npath = "{target}"\nchunk = "512B"\n'
    )
    target.touch()
    command = [sys.executable, "-m", "drawwell", "-c", str(config), "run"]
    with subprocess.Popen(command, env=ssh_on_the_path(well), stderr=subprocess.DEVNULL) as consumer:
        wait_until(lambda: target.stat().st_size >= 1024, "the file is full")
        consumer.terminate()
    assert consumer.returncode == 0


def test_operator_sees_keys_and_changes_what_they_may_have(well: Well) -> None:
    """The list has fingerprints; limits work as usual; --ttl is ignored."""
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", well.folder / "db01"], capture_output=True, check=True
    ).stdout
    assert shown.split()[1] in well.run("consumer", "list").stdout
    assert b"with a stream" in well.run("consumer", "quota", "db01", "--stream").stdout
    assert b"with a stream" not in well.run("consumer", "quota", "db01", "--no-stream").stdout
    path = str(well.folder / "db01.pub")
    assert well.run("consumer", "invite", "db01", "--ssh-key", path, "--ttl", "1h").returncode == 64
    assert well.run("consumer", "invite", "db01", "--ssh-key", "/nowhere").returncode != 0
