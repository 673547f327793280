"""The commands that move the root's key and replace a consumer's."""

import shutil
import ssl
import time
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.crypto.tokens import parse_address
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import AuthenticationFailed, LinkUnavailable
from drawwell.links.identity import load
from support.daemon import Daemon, StickThread, command
from support.signing import Host
from support.station import Site

pytestmark = pytest.mark.slow


def test_the_root_goes_and_a_consumer_gets_another_key(folder: Path) -> None:
    """Without the root's key everything works until a renewal needs it."""
    host = Host(Site(folder))
    KeyRing(str(folder / "state-signer"), "well", time.time() - 70 * pki.DAY_S)
    key, safe = folder / "state-signer" / "root-key.pem", folder / "root.pem"
    with Daemon("signer", "run", config=host.site.path, log=folder / "first.log") as alone:
        alone.wait_for_text("listening on")  # wording: a name
        host.typed("pki", "export-root", str(safe))
    assert not key.exists()
    with StickThread(folder / "stick", rate=0), host.running():
        the_root_comes_back_for_a_renewal(host, safe)
        assert not key.exists()
        a_consumer_gets_another_key(host)
        both_doors_get_another_key(host)


def test_a_broker_without_a_signer_shows_its_keys(folder: Path) -> None:
    """`pki show` reads the files of `drawwell run`; rotations need a signer."""
    site = Site(folder)
    with Daemon("run", config=site.path, log=folder / "log") as running:
        running.wait_for_text("retrying")
        shown = command("pki", "show", config=site.path)
        refused = command("pki", "rotate", "root", config=site.path)
    root = pki.spki_sha256((folder / "state/pki/root.pem").read_bytes()).hex()
    assert (shown.returncode, root in shown.stdout, "signer" in shown.stdout) == (0, True, False)
    assert (refused.returncode, "drawwell broker run" in refused.stderr) == (64, True)
    assert "systemctl" not in refused.stderr


def the_root_comes_back_for_a_renewal(host: Host, safe: Path) -> None:
    again = f"{safe}.again"
    host.proved(host.join("web01"))
    assert "renewal is due: pki import-root FILE" in host.typed("pki", "show")  # wording: names a command
    assert "pki import-root FILE" in refusal(host, "pki", "rotate", "intermediate")
    assert "already exists" in refusal(host, "pki", "export-root", str(safe))  # wording: a cause
    refusal(host, "pki", "export-root", again)
    assert not Path(again).exists()
    host.typed("pki", "import-root", str(safe))
    assert "is due" not in host.typed("pki", "show")  # wording: as above
    host.typed("pki", "rotate", "intermediate")
    host.typed("pki", "export-root", again)
    assert Path(again).read_bytes() == safe.read_bytes()
    assert Path(again).stat().st_mode & 0o777 == 0o600
    host.proved(host.join("web02"))


def a_consumer_gets_another_key(host: Host) -> None:
    host.join("db01")
    directory = str(host.folder / "db01")
    earlier = load(shutil.copytree(directory, f"{directory}.kept"))
    host.proved(earlier)
    host.typed("join", "--rekey", "--dir", directory)
    host.proved(load(directory))
    with pytest.raises((AuthenticationFailed, LinkUnavailable)):
        host.draw(earlier)
    assert "--name" in refusal(host, "join", "--rekey")


def both_doors_get_another_key(host: Host) -> None:
    identity, pem = host.join("web03"), folder_of(host) / "server.pem"
    before = pki.spki_sha256(pem.read_bytes())
    host.typed("pki", "rotate", "server")
    shown = ssl.get_server_certificate(parse_address(host.site.tls)).encode()
    assert pki.spki_sha256(shown) == pki.spki_sha256(pem.read_bytes()) != before
    host.proved(identity)
    host.proved(host.join("web04"))


def folder_of(host: Host) -> Path:
    return host.folder / "state" / "pki"


def refusal(host: Host, *arguments: str) -> str:
    done = command(*arguments, config=host.site.path)
    assert done.returncode
    return done.stderr
