"""``require_pq``: the configuration that is shipped, when a process begins anew, and when it refuses to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drawwell.errors import ConfigError
from drawwell.host.openssl import CONFIGURATION, offered, require_post_quantum
from drawwell.testing.waiting import DEADLINE_S

PROGRAM = (sys.executable, "-c", "from drawwell.host.openssl import offered; print(*offered())")
NEW, OLD = (3, 5, 0, 0, 0), (3, 4, 9, 0, 0)


class _BegunAnewError(Exception):
    pass


def restart(program: str, words: list[str], environ: dict[str, str]) -> None:
    assert program == words[0] == sys.executable
    raise _BegunAnewError(environ["OPENSSL_CONF"])


def require(version: tuple[int, ...], *groups: str, environ: dict[str, str] | None = None) -> None:
    require_post_quantum(version=version, groups=lambda: groups, environ=environ or {}, restart=restart)


def test_the_configuration_that_is_shipped_names_one_group_and_no_aes_128() -> None:
    """It asks for X25519MLKEM768 and nothing else, TLS 1.3 and suites with keys of 256 bits."""
    lines = [
        line for line in Path(CONFIGURATION).read_text().splitlines() if " = " in line and line[0] != "#"
    ]
    values = dict(line.split(" = ") for line in lines)
    assert (values["Groups"], values["MinProtocol"]) == ("X25519MLKEM768", "TLSv1.3")
    assert values["Ciphersuites"] == "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"


def test_a_configuration_of_that_form_is_in_force_here(tmp_path: Path) -> None:
    """The same file with a group that this OpenSSL knows makes that group the only one that is offered."""
    conf = tmp_path / "openssl.cnf"
    conf.write_text(Path(CONFIGURATION).read_text().replace("Groups = X25519MLKEM768", "Groups = P-384"))
    done = subprocess.run(
        PROGRAM, env=os.environ | {"OPENSSL_CONF": str(conf)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["secp384r1"]


def test_a_process_that_offers_nothing_else_goes_on() -> None:
    """When the hello names X25519MLKEM768 alone, there is nothing to do, whoever configured it."""
    require(NEW, "X25519MLKEM768")


def test_a_process_that_offers_more_begins_anew_with_the_configuration() -> None:
    """With an OpenSSL that has the group, the same command is run again with OPENSSL_CONF set."""
    with pytest.raises(_BegunAnewError, match=r"post-quantum\.cnf"):
        require(NEW, "X25519MLKEM768", "x25519", environ={"OPENSSL_CONF": "/etc/ssl/openssl.cnf"})


def test_a_process_begins_anew_once() -> None:
    """When the configuration is named and still not in force, that is a fault and no loop."""
    with pytest.raises(ConfigError, match="offers x25519"):
        require(NEW, "x25519", environ={"OPENSSL_CONF": CONFIGURATION})


def test_an_openssl_without_the_group_is_refused() -> None:
    """Before 3.5 the configuration would be passed over in silence, so nothing is started."""
    with pytest.raises(ConfigError, match=r"OpenSSL 3\.5 or later") as refused:
        require(OLD, "x25519")
    assert refused.value.exit_code == 78
    assert "require_pq = false" in str(refused.value.hint)


@pytest.mark.parametrize("noun", ["run", "broker"])
def test_the_daemon_runs_with_the_group_alone_or_not_at_all(tmp_path: Path, noun: str) -> None:
    """Where this Python's OpenSSL lacks the group, the daemon ends with 78, a hint, and nothing made."""
    if "X25519MLKEM768" in offered():
        pytest.skip("this OpenSSL has X25519MLKEM768")
    config = tmp_path / "drawwell.toml"
    config.write_text(
        f'[broker]\nstate_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n[tls]\nrequire_pq = true\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "drawwell", "-c", str(config), noun],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 78
    assert "drawwell: hint: " in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawwell.toml"]
