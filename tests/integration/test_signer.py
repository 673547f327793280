"""A broker without keys, and its signer."""

import contextlib
import json
import signal
from functools import partial
from pathlib import Path

import pytest

from drawwell.errors import LinkUnavailable, StateUnavailable
from drawwell.links.identity import LinkIdentity
from drawwell.testing.waiting import wait_until
from support.daemon import StickThread, command
from support.signing import Host
from support.station import Site

pytestmark = pytest.mark.slow


def test_a_broker_without_keys(folder: Path) -> None:
    """Without the signer, only receipts and enrolment are refused."""
    host = Host(Site(folder))
    with StickThread(folder / "stick", rate=0), contextlib.ExitStack() as running:
        signer = running.enter_context(host.process("signer", "run"))
        signer.wait_for_text("listening on")  # wording: a name
        broker = running.enter_context(host.process("broker", "run"))
        running.enter_context(host.process("source", "run", "stick"))
        host.until_ready()
        web01 = host.join("web01")
        host.proved(web01)
        held = {path.name for path in (folder / "state").rglob("*key.pem")}
        assert held == {"server-key.pem", "enrol-key.pem"}
        signer.send(signal.SIGSTOP)
        with pytest.raises(StateUnavailable, match="the bytes are lost"):
            host.draw(web01, receipt=True)
        with pytest.raises(StateUnavailable, match="timed out"):
            host.draw(web01, receipt=True)
        assert host.draw(web01)
        broker.send(signal.SIGHUP)
        broker.wait_for_text("reloaded the configuration")  # wording: a name
        assert host.draw(web01)
        signer.send(signal.SIGCONT)
        wait_until(lambda: received(host, web01), "receipts from a signer that goes on")
        signer.kill()
        serial = host.draw(web01).serial
        with pytest.raises(StateUnavailable, match="cannot reach the signer"):
            host.draw(web01, receipt=True)
        assert host.draw(web01).serial == serial + 1
        with pytest.raises(LinkUnavailable, match="the broker cannot reach its signer"):
            host.join("db01")
        running.enter_context(host.process("signer", "run")).wait_for_text("listening on")  # wording: a name
        wait_until(lambda: received(host, web01), "receipts again")
        lines = [
            json.loads(line) for line in (folder / "state-signer" / "signer.jsonl").read_text().splitlines()
        ]
        assert [line["name"] for line in lines if line["event"] == "certified"] == ["web01"]
        assert broker.running


def test_the_audit_log_is_verified_without_tls(folder: Path) -> None:
    """The keys come from the running broker, also after a rotation."""
    host = Host(Site(folder))
    host.site.path.write_text(host.site.path.read_text().partition("[tls]")[0])
    verify = partial(command, "audit", "verify", config=host.site.path)
    with StickThread(folder / "stick", rate=0), host.running():
        host.typed("draw", "8", "--receipt", str(folder / "receipt"), "-o", str(folder / "bytes"))
        host.rotate("receipts")
        done = verify("--receipt", str(folder / "receipt"))
        assert done.returncode == 0, done.stderr
    done = verify()
    assert done.returncode == 64
    assert "Start the broker" in done.stderr


def received(host: Host, identity: LinkIdentity) -> bool:
    try:
        return bool(host.proved(identity))
    except StateUnavailable:
        return False
