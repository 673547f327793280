"""Containers as Podman and Docker list them."""

from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.docker.engine import Containers
from drawwell.guests.model import Attachment, Guest, GuestKind

WEB = Guest(GuestKind.PODMAN, "web1", Attachment.SOCKET)
INSPECTED = """[{"Name": "x", "State": {"Running": true}, "Config": {}, "HostConfig": {}}]"""
ENGINE = f"""#!/bin/sh
case "$*" in
*ps*) cat "$0.names";;
*inspect*) echo '{INSPECTED}';;
esac
"""


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the program's list, one name per line."""
    for name in ("podman", "docker"):
        program = tmp_path / name
        program.write_text(ENGINE)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "podman.names"


@pytest.mark.parametrize("listed", ["web1", "systemd-web1"])
def test_a_container_that_is_listed_is_known(names: Path, listed: str) -> None:
    """A container is found by its name, or by the name that quadlet gave it."""
    names.write_text(f"other\n{listed}\n")
    Containers(GuestKind.PODMAN).require(WEB)


def test_a_name_that_is_not_listed_is_refused(names: Path) -> None:
    """The hint suggests similar names and an option."""
    names.write_text("wbe1\nweb11\ndatabase\n")
    with pytest.raises(GuestUnavailable, match="podman has no container web1") as refused:
        Containers(GuestKind.PODMAN).require(WEB)
    assert refused.value.hint == "Did you mean web11, wbe1? If the guest does not exist yet, add --new."


def test_nothing_is_like_it(names: Path) -> None:
    """Without similar names, the hint names none."""
    names.write_text("database\n")
    with pytest.raises(GuestUnavailable) as refused:
        Containers(GuestKind.PODMAN).require(WEB)
    assert refused.value.hint == "If the guest does not exist yet, add --new."


@pytest.mark.usefixtures("names")
def test_a_unit_is_enough(tmp_path: Path) -> None:
    """If a folder is given, the container need not exist yet."""
    Containers(GuestKind.PODMAN, str(tmp_path)).require(WEB)
