"""`config check` finds everything that `run` would refuse."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from drawwell.config.load import load
from drawwell.crypto.receipts import receipt_key_from_seed
from drawwell.errors import DrawwellError
from drawwell.roles.runnable import require_runnable
from drawwell.state.files import replace_file
from support.certificates import PaperAuthority
from support.daemon import command
from support.station import Site

Spoil = Callable[[Path], str]
"""Breaks something in a folder, and returns configuration lines."""


def own_pki(folder: Path) -> tuple[str, str]:
    """Return a key, and the lines that make a broker use it."""
    certificate, key, ca = PaperAuthority(folder).server("well.example")
    return key, f'[pki]\ncertificate = "{certificate}"\nkey = "{key}"\nca = "{ca}"\n'


def open_key(folder: Path) -> str:
    """Let every user read the private key."""
    key, lines = own_pki(folder)
    os.chmod(key, 0o644)
    return lines


def no_key(folder: Path) -> str:
    """Empty the private key."""
    key, lines = own_pki(folder)
    Path(key).write_text("")
    return lines


def open_state(folder: Path) -> str:
    """Let every user write to the state directory."""
    (folder / "state").mkdir()
    (folder / "state").chmod(0o777)
    return ""


def open_log(folder: Path) -> str:
    """Let another user write to the log of operators' actions."""
    (folder / "state").mkdir(0o700)
    (folder / "state" / "audit-operators.jsonl").touch()
    (folder / "state" / "audit-operators.jsonl").chmod(0o666)
    return ""


def open_database(folder: Path) -> str:
    """Let every user write to the database."""
    (folder / "state").mkdir(0o700)
    (folder / "state" / "broker.db").touch()
    (folder / "state" / "broker.db").chmod(0o666)
    return ""


def open_server_key(folder: Path) -> str:
    """Let every user read the key of the TLS door."""
    (folder / "state" / "pki").mkdir(0o700, parents=True)
    (folder / "state").chmod(0o700)
    replace_file(str(folder / "state" / "pki" / "server-key.pem"), b"none", 0o644)
    return ""


def open_receipt_key(folder: Path) -> str:
    """Let every user read the receipt key."""
    (folder / "state").mkdir(0o700)
    replace_file(str(folder / "state" / "receipt-key.pem"), receipt_key_from_seed(bytes(32)), 0o644)
    return ""


def no_receipt_key(folder: Path) -> str:
    """Write other data to the receipt key's file."""
    (folder / "state").mkdir(0o700)
    replace_file(str(folder / "state" / "receipt-key.pem"), b"none")
    return ""


def half_a_ca(folder: Path) -> str:
    """Leave a CA certificate without its key."""
    (folder / "state" / "pki").mkdir(0o700, parents=True)
    (folder / "state").chmod(0o700)
    replace_file(str(folder / "state" / "pki" / "ca.pem"), b"none", 0o644)
    return ""


def open_audit(folder: Path) -> str:
    """Put the audit log where every user may write."""
    (folder / "logs").mkdir()
    (folder / "logs").chmod(0o1777)
    return f'[audit]\npath = "{folder}/logs/audit"\n'


def open_socket(folder: Path) -> str:
    """Listen in a directory where every user may write."""
    (folder / "sockets").mkdir()
    (folder / "sockets").chmod(0o777)
    return f'[http]\nlisten = "{folder}/sockets/http"\n'


def no_socket(folder: Path) -> str:
    """Listen where there is a file."""
    (folder / "file").write_text("")
    return f'[http]\nlisten = "{folder}/file"\n'


def no_directory(folder: Path) -> str:
    """Listen in a directory that is missing."""
    return f'[http]\nlisten = "{folder}/none/http"\n'


def foreign_address(_: Path) -> str:
    """Enrol at an address of TEST-NET-1."""
    return '[enrol]\nlisten = "192.0.2.1:55001"\n'


def no_identity(_: Path) -> str:
    """Draw from a broker that was never joined."""
    return '[kernel]\nfeed = true\n[[upstream]]\nurl = "tls://other.example:55000"\n'


def open_sink(folder: Path) -> str:
    """Write to a file where every user may write."""
    (folder / "common").mkdir()
    (folder / "common").chmod(0o1777)
    return f'[[sink]]\nkind = "file"\npath = "{folder}/common/file"\n'


def linked_sink(folder: Path) -> str:
    """Write through a link into a directory where every user may write."""
    lines = open_sink(folder)
    (folder / "link").symlink_to(folder / "common" / "file")
    return lines.replace("common/file", "link")


def no_fifo(folder: Path) -> str:
    """Write to a FIFO that is not a FIFO."""
    (folder / "fifo").write_text("")
    return f'[[sink]]\nkind = "fifo"\npath = "{folder}/fifo"\n'


def open_program(folder: Path) -> str:
    """Take noise from a program that every user may change."""
    (folder / "program").write_text("#!/bin/sh\n")
    (folder / "program").chmod(0o777)
    return f'[[source]]\nname = "p"\ndriver = "exec"\ncommand = ["{folder}/program"]\nmin_entropy = 1.0\n'


def no_firmware_key(folder: Path) -> str:
    """Name a firmware key that is missing."""
    return f'[[source]]\nname = "k"\npath = "/dev/x"\nfirmware_key = "{folder}/none"\n'


def post_quantum(_: Path) -> str:
    """Require a key exchange that OpenSSL before 3.5 lacks."""
    return "require_pq = true\n"


def damaged_database(folder: Path) -> str:
    """Write other data to the database file."""
    (folder / "state").mkdir(0o700)
    replace_file(str(folder / "state" / "broker.db"), b"not a database, whatever SQLite makes of it")
    return ""


def linked_lock(folder: Path) -> str:
    """Make the lock a link."""
    (folder / "state").mkdir(0o700)
    (folder / "state" / "broker.db.lock").symlink_to(folder / "elsewhere")
    return ""


def state_is_a_file(folder: Path) -> str:
    """Put a file where the state directory belongs."""
    (folder / "state").write_text("")
    return ""


FAULTS = (
    open_key, no_key, open_state, open_receipt_key, no_receipt_key, half_a_ca, open_audit, open_socket, no_socket,
    no_directory, foreign_address, no_identity, open_sink, linked_sink, no_fifo, open_program, no_firmware_key,
    post_quantum, open_log, open_database, open_server_key, damaged_database, linked_lock, state_is_a_file,
)  # fmt: skip


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda spoil: spoil.__name__)
def test_check_refuses_what_run_refuses(folder: Path, spoil: Spoil) -> None:
    """Check and run end with the same error and code, and create no files."""
    import ssl

    if spoil is post_quantum and ssl.OPENSSL_VERSION_INFO >= (3, 5):
        pytest.skip("this OpenSSL has the key exchange")
    site = Site(folder)
    site.write(spoil(folder))
    before = sorted(folder.rglob("*"))
    with pytest.raises(DrawwellError) as caught:
        require_runnable(load(str(site.path)))
    run = command("run", config=site.path)
    assert (caught.value.exit_code, f"drawwell: {caught.value}") == (
        run.returncode,
        run.stderr.splitlines()[0],
    )
    assert sorted(folder.rglob("*")) == before


def test_check_passes_what_runs(folder: Path) -> None:
    """A configuration is valid before its state is created."""
    site = Site(folder)
    assert command("config", "check", config=site.path).returncode == 0
    open_state(folder)
    assert "chmod o-w" in command("config", "check", config=site.path).stderr


def test_doctor_reports_a_private_key_that_is_open(folder: Path) -> None:
    """The finding has the command that fixes it."""
    site = Site(folder)
    site.write(open_key(folder))
    found = command("doctor", config=site.path).stdout
    assert "every user can read" in found
    assert f"chmod o-r {folder}/well.example.key" in found
