"""Other libvirts than the system's: a user's session, and over SSH."""

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.libvirtd import Libvirtd, agent_image
from lab.session import Session
from support.daemon import command

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin")
NETCAT = """#!/bin/sh
for each in "$@"; do socket=$each; done
exec socat - "UNIX-CONNECT:$socket"
"""
"""The remote command of libvirt's SSH transport (libvirt.org/uri.html, "netcat")."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("virsh"), reason="libvirt is not installed"),
]


def guest(config: Path, uri: str, verb: str, *options: str) -> dict[str, Any]:
    """Return ``drawwell guest`` as JSON; `status` is its exit code."""
    done = command("guest", verb, "libvirt", "web01", "--connect", uri, *options, "--json", config=config)
    text = done.stdout or done.stderr
    return {"status": done.returncode, **json.loads(text[text.find("{") :])}


@pytest.mark.long
def test_a_machine_of_a_users_session_is_fed(broker: Path) -> None:
    """A machine in another user's session is fed if --user names the user."""
    with or_skip(), Session() as libvirt:
        libvirt.define("web01", agent_image())
        before = libvirt.describe("web01")
        applied = guest(broker, libvirt.uri, "apply", "--user", "daemon")
        assert applied["status"] == 0, applied
        shell = libvirt.start("web01")
        shell.until("test -s /tmp/qemu-ga.pid")
        verified = guest(broker, libvirt.uri, "verify")
        assert {each["verdict"] for each in verified["findings"]} == {"holds"}, verified
        shell.close()
        libvirt.virsh("destroy", "web01")
        assert guest(broker, libvirt.uri, "apply", "--remove")["status"] == 0
        assert libvirt.describe("web01") == before


@pytest.mark.long
@pytest.mark.skipif(not SSHD or not shutil.which("socat"), reason="sshd or socat is not installed")
def test_a_domain_is_changed_by_ssh(broker: Path, folder: Path) -> None:
    """A domain can be changed, listed and restored over qemu+ssh."""
    with or_skip(), Libvirtd() as libvirt, sshd(folder) as port:
        libvirt.define("web01", agent_image())
        netcat = folder / "netcat"
        netcat.write_text(NETCAT)
        netcat.chmod(0o755)
        options = {
            "socket": f"{libvirt.root}/run/libvirt-sock", "keyfile": f"{folder}/user", "netcat": str(netcat),
            "proxy": "netcat", "no_verify": "1", "no_tty": "1",
        }  # fmt: skip
        query = "&".join(f"{name}={value}" for name, value in options.items())
        uri = f"qemu+ssh://root@127.0.0.1:{port}/system?{query}"
        before = libvirt.describe("web01")
        applied = guest(broker, uri, "apply")
        assert "the domain web01 has virtio" in str(applied["changes"]), applied
        assert any("on another machine" in note for note in applied["plan"]["notes"]), applied
        assert guest(broker, uri, "apply")["changes"] == []
        audited = command("guest", "audit", "libvirt", "--connect", uri, "--json", config=broker)
        assert "egd.sock" in audited.stdout, audited
        assert guest(broker, uri, "apply", "--remove")["status"] == 0
        assert libvirt.describe("web01") == before


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[int]:
    """Run an sshd that admits the key `user`; yield its port."""
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(key, check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/user.pub\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with subprocess.Popen(
        [str(SSHD), "-D", "-f", folder / "sshd_config", "-E", folder / "sshd.log"]
    ) as running:
        try:
            wait_until(lambda: _answers(port), "sshd answers")
            yield port
        finally:
            running.terminate()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
