"""libvirt's Python bindings, with the test driver and a silent socket."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drawwell.errors import GuestUnavailable, PermissionRefused
from drawwell.guests.libvirt import connect
from drawwell.guests.libvirt.bindings import Bindings
from drawwell.guests.libvirt.connection import LibvirtConnection, ask_agent
from drawwell.guests.libvirt.domain_xml import Domain
from drawwell.guests.libvirt.virsh import Virsh
from lab.cache import or_skip
from lab.libvirt_bindings import bindings

TEST = "test:///default"
"""libvirt's built-in test driver: one running, persistent domain, in memory."""
RNG = "<rng model='virtio'><backend model='builtin'/></rng>"


@pytest.fixture(autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the bindings importable."""
    with or_skip():
        monkeypatch.syspath_prepend(bindings(tmp_path_factory.mktemp("bindings")))


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """Yield the URI of a libvirt that accepts but never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent"))
        listener.listen()
        os.chmod(tmp_path / "silent", 0)
        yield f"qemu+unix:///system?socket={tmp_path}/silent"


def test_the_bindings_are_preferred_to_virsh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bindings are used if they are installed, virsh otherwise."""
    assert isinstance(connect(TEST), Bindings)
    monkeypatch.setitem(sys.modules, "libvirt_qemu", None)
    assert isinstance(connect(TEST), Virsh)


def test_a_given_uri_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """LIBVIRT_DEFAULT_URI in turn has priority over the system's libvirt."""
    assert connect("").uri == "qemu:///system"
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu:///session")
    assert (connect("").uri, connect(TEST).uri) == ("qemu:///session", TEST)


@pytest.mark.parametrize("kind", [Bindings, Virsh])
def test_the_bindings_and_virsh_read_the_same(kind: type[Bindings] | type[Virsh]) -> None:
    """Bindings and virsh return the same domains, XML and capabilities."""
    connection: LibvirtConnection = kind(TEST)
    (known,) = connection.domains()
    assert (known.name, known.live, known.persistent) == ("test", True, True)
    assert Domain(connection.describe(known.uuid)).name == "test"
    assert "id=" not in connection.describe(known.uuid, kept=True).splitlines()[0]
    assert connection.capabilities().startswith("<capabilities>")


def test_a_new_definition_is_kept() -> None:
    """libvirt returns the new definition."""
    connection = Bindings(TEST)
    (known,) = connection.domains()
    xml = connection.describe(known.uuid, kept=True, security_info=True)
    connection.define(xml.replace("</devices>", f"{RNG}</devices>"))
    assert "builtin" in connection.describe(known.uuid, kept=True)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run as another user if this is root, which can open everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_stopped_libvirt_is_unavailable(tmp_path: Path) -> None:
    """Without a socket the hint is to start libvirt."""
    with pytest.raises(GuestUnavailable) as refused:
        Bindings(f"qemu+unix:///system?socket={tmp_path}/none").domains()
    assert "systemctl start" in str(refused.value.hint)


def test_a_socket_of_another_user_is_refused(silent: str) -> None:
    """A socket without access for this user raises PermissionRefused."""
    with without_privileges(), pytest.raises(PermissionRefused, match="Permission denied") as refused:
        Bindings(silent).domains()
    assert "group libvirt" in str(refused.value.hint)


def test_a_libvirt_that_hangs_times_out(silent: str) -> None:
    """A call without an answer ends at its timeout."""
    with pytest.raises(GuestUnavailable, match="did not answer within"):
        Bindings(silent, answer_s=0.2).domains()


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        ("AUTH_UNAVAILABLE", PermissionRefused, "group libvirt"),
        ("ACCESS_DENIED", PermissionRefused, "group libvirt"),
        ("AGENT_UNRESPONSIVE", GuestUnavailable, "qemu-guest-agent"),
        ("OPERATION_INVALID", GuestUnavailable, "virsh list"),
        ("INTERNAL_ERROR", GuestUnavailable, "journal"),
    ],
)
def test_the_code_decides_what_a_refusal_means(code: str, kind: type[Exception], hint: str) -> None:
    """libvirt's error code determines kind and hint, whatever its message.

    Control characters of the message are replaced.
    """
    import libvirt

    class Refusing:
        def listAllDomains(self) -> Any:  # noqa: N802  libvirt's name
            error = libvirt.libvirtError("")
            error.err = (getattr(libvirt, f"VIR_ERR_{code}"), 0, "\x1b[2J", 2, None, None, None, -1, -1)
            raise error

    connection = Bindings(TEST)
    connection._host = Refusing()
    with pytest.raises(kind, match=r"\?\[2J") as refused:
        connection.domains()
    assert hint in str(refused.value.hint)


def test_a_missing_agent_is_unavailable() -> None:
    """The test driver has no guest agent, and its error has a hint."""
    connection = Bindings(TEST)
    (known,) = connection.domains()
    with pytest.raises(GuestUnavailable, match="not supported") as refused:
        ask_agent(connection, known.uuid, "guest-ping", {}, 1.0)
    assert refused.value.hint
