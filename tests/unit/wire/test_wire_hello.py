"""Groups parsed from hellos, compared with OpenSSL; required strength."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import RemoteProtocolError
from drawwell.wire.contexts import client_context, server_context
from drawwell.wire.hello import GROUP_NAMES, X25519MLKEM768, chosen_group, group_name, offered_groups
from drawwell.wire.tls import TlsLayer, TlsState
from support.certificates import PaperAuthority

TESTS = Path(__file__).parents[2]


def talk(server: TlsLayer, client: TlsLayer, *, piece: int) -> None:
    """Pass output both ways in pieces of this size until there is none."""
    client.start()
    while data := client.data_to_send():
        server.receive_data(data)
        answer = server.data_to_send()
        for at in range(0, len(answer), piece):
            client.receive_data(answer[at : at + piece])


@pytest.mark.parametrize("piece", [1, 100, 65_536])
def test_both_ends_know_the_negotiated_group(tmp_path: Path, piece: int) -> None:
    """Both ends report the same, offered group for any packet size."""
    authority = PaperAuthority(tmp_path)
    context = client_context(*authority.client("web01"))
    server = TlsLayer(server_context(*authority.server("localhost")))
    client = TlsLayer(context, server_name="localhost")
    assert (server.group, client.group) == (None, None)

    talk(server, client, piece=piece)

    assert server.state is client.state is TlsState.OPEN
    assert server.group == client.group
    assert server.group in offered_groups(context)


def test_offered_groups_are_those_that_openssl_is_configured_with() -> None:
    """Two groups in OpenSSL's configuration are offered in this order."""
    script = (
        "import ssl; from drawwell.wire.hello import offered_groups, group_name\n"
        "print(*map(group_name, offered_groups(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))))"
    )
    conf = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nGroups = P-384:X25519\n"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OPENSSL_CONF": "/dev/stdin"},
        input=conf,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["secp384r1", "x25519"]


def test_groups_have_names() -> None:
    """A registered number has a name; any other is shown as a number."""
    assert group_name(X25519MLKEM768) == "X25519MLKEM768"
    assert group_name(0x6A6A) == "group 0x6a6a"
    assert len(set(GROUP_NAMES.values())) == len(GROUP_NAMES)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"\x16\x03\x03\x00\x7a\x02" + data))
def test_any_bytes_are_a_hello_or_none(data: bytes) -> None:
    """Any first bytes from a peer give a group or None."""
    assert chosen_group(data) is None or chosen_group(data) in range(65_536)


@pytest.mark.parametrize("weak", ["client", "broker"])
def test_aes_128_is_closed_at_both_ends(tmp_path: Path, weak: str) -> None:
    """If one end has only AES-128, the other reports this and closes."""
    script = f"""
import sys
from drawwell.errors import RemoteProtocolError
from support.certificates import PaperAuthority
from drawwell.wire import tls
from drawwell.wire.contexts import client_context, server_context
from pathlib import Path
authority = PaperAuthority(Path({str(tmp_path)!r}))
server = tls.TlsLayer(server_context(*authority.server("localhost")))
client = tls.TlsLayer(client_context(*authority.client("web01")), server_name="localhost")
strict = tls.require_strength
judged = {{"client": server, "broker": client}}[{weak!r}]
tls.require_strength = lambda one: strict(one) if one is judged._tls else None
client.start()
try:
    while data := client.data_to_send():
        server.receive_data(data)
        if answer := server.data_to_send():
            client.receive_data(answer)
except RemoteProtocolError as error:
    print(error, judged.state, judged._tls.cipher()[0], sep="|")
"""
    conf = tmp_path / "openssl.cnf"
    conf.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"
        "Ciphersuites = TLS_AES_128_GCM_SHA256\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OPENSSL_CONF": str(conf), "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    message, state, suite = done.stdout.strip().split("|")
    assert "TLS_AES_128_GCM_SHA256, is too weak" in message
    assert (state, suite) == ("TlsState.CLOSED", "TLS_AES_128_GCM_SHA256")


def test_strength_is_judged_by_version_and_suite(tmp_path: Path) -> None:
    """A TLS 1.2 connection is too weak with any suite."""
    authority = PaperAuthority(tmp_path)
    server = server_context(*authority.server("localhost"))
    client = client_context(*authority.client("web01"))
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(RemoteProtocolError, match="too weak"):
        talk(TlsLayer(server), TlsLayer(client, server_name="localhost"), piece=65_536)
