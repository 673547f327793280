"""``require_pq``: its configuration, the restart and the refusal."""

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


class _RestartedError(Exception):
    pass


def restart(program: str, argv: list[str], environ: dict[str, str]) -> None:
    assert program == argv[0] == sys.executable
    raise _RestartedError(environ["OPENSSL_CONF"])


def require(version: tuple[int, ...], *groups: str, environ: dict[str, str] | None = None) -> None:
    require_post_quantum(version=version, groups=lambda: groups, environ=environ or {}, restart=restart)


def test_the_configuration_that_is_shipped_names_one_group_and_no_aes_128() -> None:
    """The file allows only X25519MLKEM768, TLS 1.3 and 256-bit suites."""
    lines = [
        line for line in Path(CONFIGURATION).read_text().splitlines() if " = " in line and line[0] != "#"
    ]
    values = dict(line.split(" = ") for line in lines)
    assert (values["Groups"], values["MinProtocol"]) == ("X25519MLKEM768", "TLSv1.3")
    assert values["Ciphersuites"] == "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"


def test_a_configuration_of_that_form_is_in_force_here(tmp_path: Path) -> None:
    """The same file with a known group makes OpenSSL offer only that group."""
    conf = tmp_path / "openssl.cnf"
    conf.write_text(Path(CONFIGURATION).read_text().replace("Groups = X25519MLKEM768", "Groups = P-384"))
    done = subprocess.run(
        PROGRAM, env=os.environ | {"OPENSSL_CONF": str(conf)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["secp384r1"]


def test_a_process_that_offers_nothing_else_goes_on() -> None:
    """If the hello has only X25519MLKEM768, the process continues."""
    require(NEW, "X25519MLKEM768")


def test_a_process_that_offers_more_restarts_with_the_configuration() -> None:
    """If OpenSSL has the group, the process restarts with OPENSSL_CONF."""
    with pytest.raises(_RestartedError, match=r"post-quantum\.cnf"):
        require(NEW, "X25519MLKEM768", "x25519", environ={"OPENSSL_CONF": "/etc/ssl/openssl.cnf"})


def test_a_process_restarts_once() -> None:
    """If the configuration has no effect, the result is an error, not a loop."""
    with pytest.raises(ConfigError, match="offers x25519"):
        require(NEW, "x25519", environ={"OPENSSL_CONF": CONFIGURATION})


def test_an_openssl_without_the_group_is_refused() -> None:
    """OpenSSL before 3.5 would ignore the configuration, so nothing starts."""
    with pytest.raises(ConfigError, match=r"OpenSSL 3\.5 or later") as refused:
        require(OLD, "x25519")
    assert refused.value.exit_code == 78
    assert "require_pq = false" in str(refused.value.hint)


@pytest.mark.parametrize("noun", ["run", "broker"])
def test_the_daemon_runs_with_the_group_alone_or_not_at_all(tmp_path: Path, noun: str) -> None:
    """If OpenSSL lacks the group, it exits with 78 and creates no file."""
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
