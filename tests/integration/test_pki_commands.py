"""The commands that move the root's key and a consumer's."""

import shutil
import time
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import AuthenticationFailed, LinkUnavailable
from drawwell.links.identity import load
from support.daemon import Daemon, StickThread, command
from support.signing import Host
from support.station import Site

pytestmark = pytest.mark.slow


def test_the_root_goes_and_a_consumer_gets_another_key(folder: Path) -> None:
    """Without the root's key all goes on, and a renewal asks for it."""
    host = Host(Site(folder))
    KeyRing(str(folder / "state-signer"), "well", time.time() - 70 * pki.DAY_S)
    key, safe = folder / "state-signer" / "root-key.pem", folder / "root.pem"
    with Daemon("signer", "run", config=host.site.path, log=folder / "first.log") as alone:
        alone.until_it_says("signs at")  # wording: a name
        host.typed("pki", "export-root", str(safe))
    assert not key.exists()
    with StickThread(folder / "stick", rate=0), host.running():
        the_root_comes_back_for_a_renewal(host, safe)
        assert not key.exists()
        a_consumer_gets_another_key(host)


def the_root_comes_back_for_a_renewal(host: Host, safe: Path) -> None:
    again = f"{safe}.again"
    host.proved(host.join("web01"))
    assert "renewal is due: pki import-root FILE" in host.typed("pki", "show")  # wording: names a command
    assert "pki import-root FILE" in refusal(host, "pki", "rotate", "intermediate")
    assert "there already" in refusal(host, "pki", "export-root", str(safe))  # wording: a cause
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


def refusal(host: Host, *arguments: str) -> str:
    done = command(*arguments, config=host.site.path)
    assert done.returncode
    return done.stderr
