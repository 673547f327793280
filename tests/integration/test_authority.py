"""The CA on disk (enrolment/ca.py, state/files.py): crashes and damage."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from drawwell.crypto import pki
from drawwell.errors import StateUnavailable
from drawwell.state.files import read_file, replace_file
from drawwell.state.store import Store
from support.certificates import own_authority

NOW = 1_700_000_000.0


def test_the_authority_is_made_once(tmp_path) -> None:
    """A second start loads the existing CA from private files."""
    directory = str(tmp_path / "pki")
    first, second = own_authority(directory, NOW), own_authority(directory, NOW)

    assert first.spki_sha256 == second.spki_sha256
    keys = [path for path in (tmp_path / "pki").iterdir() if path.name.endswith("-key.pem")]
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert os.stat(directory).st_mode & 0o777 == 0o700


def test_no_authority_is_made_while_the_clock_is_not_set(tmp_path) -> None:
    """A machine with a clock in 1970 creates no CA."""
    with pytest.raises(StateUnavailable, match="clock is not set"):
        own_authority(str(tmp_path / "pki"), 1000.0)


def test_a_crash_before_the_first_certificate_is_no_obstacle(tmp_path) -> None:
    """A key without a written certificate is replaced."""
    directory = tmp_path / "pki"
    own_authority(str(directory), NOW)
    for path in directory.iterdir():
        if not path.name.endswith("-key.pem"):
            path.unlink()

    assert own_authority(str(directory), NOW).public.roots


@pytest.mark.parametrize("what", ["root", "intermediate"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", pki.new_ca("other", NOW).key_pem], ids=["empty", "garbage", "key"]
)
def test_an_authority_with_another_key_is_refused(tmp_path, what, content) -> None:
    """A CA certificate without its key is never silently replaced."""
    directory = tmp_path / "pki"
    own_authority(str(directory), NOW)
    (directory / f"{what}-key.pem").write_bytes(content)
    (directory / "root-key.pem").unlink() if what == "intermediate" else None

    with pytest.raises(StateUnavailable, match="the key does not match"):
        own_authority(str(directory), NOW)


def test_a_server_certificate_with_another_key_is_made_again(tmp_path) -> None:
    """A crash between the TLS door's key and certificate is repaired."""
    directory = tmp_path / "pki"
    authority = own_authority(str(directory), NOW)
    certificate, key = authority.server_files(["a"], NOW)
    replace_file(key, pki.new_ca("other", NOW).key_pem)

    authority.server_files(["a"], NOW)

    assert pki.spki_sha256(read_file(certificate)) == pki.key_spki_sha256(read_file(key))


def test_a_file_that_cannot_be_replaced_stays(tmp_path) -> None:
    """If the new content cannot be written, the old file is unchanged."""
    path = str(tmp_path / "file")
    replace_file(path, b"old")
    os.mkdir(path + ".new")

    with pytest.raises(StateUnavailable):
        replace_file(path, b"new")
    assert read_file(path) == b"old"


def test_a_certificate_that_was_seen_is_of_a_used_invitation(tmp_path) -> None:
    """After a SIGKILL while sending the certificate, the invitation is used."""
    code = """
        import os, signal, sys
        from drawwell.crypto import pki, tokens
        from drawwell.enrolment.admin import ConsumerAdmin
        from drawwell.enrolment.broker_details import BrokerDetails
        from drawwell.enrolment.ca import CertificateAuthority
        from drawwell.enrolment.key_ring import KeyRing
        from drawwell.enrolment.registry import InvitedRegistry
        from drawwell.state.store import Store
        from drawwell.wire.enrolment import JoinRequest
        store = Store(sys.argv[1] + "/broker.db")
        authority = CertificateAuthority(sys.argv[1] + "/pki", KeyRing(sys.argv[1] + "/pki", "well", 1.7e9))
        details = BrokerDetails("well", "h:1", ())
        admin = ConsumerAdmin(store, InvitedRegistry(store), authority, details, clock=lambda: 1.7e9)
        token = tokens.parse_token(admin.invite("web01")["token"])
        csr = pki.new_key_and_csr("web01")[1].decode()
        os.write(1, admin.redeem(JoinRequest(token.invitation, token.secret, csr)).certificate.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "state")]
    broker = subprocess.run(command, capture_output=True, check=False)

    store = Store(str(tmp_path / "state" / "broker.db"))
    statuses = [listed.invitation.status for listed in store.page("", "", 9) if listed.invitation]
    registered = list(store.certificates("web01"))
    store.close()

    assert broker.returncode == -signal.SIGKILL
    assert statuses == ["used"]
    assert registered == [pki.spki_sha256(broker.stdout).hex()]
