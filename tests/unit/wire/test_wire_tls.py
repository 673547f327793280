"""TLS without sockets, with OpenSSL on both sides."""

import ssl
import subprocess
from pathlib import Path

import pytest

from drawwell.errors import AuthenticationFailed, ConfigError, LocalProtocolError, RemoteProtocolError
from drawwell.wire import limits
from drawwell.wire.contexts import client_context, server_context
from drawwell.wire.tls import TlsLayer, TlsState
from support.certificates import PaperAuthority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PaperAuthority:
    return PaperAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: PaperAuthority) -> ssl.SSLContext:
    return server_context(*authority.server("localhost", "127.0.0.1"), renews=True)


@pytest.fixture(scope="module")
def client(authority: PaperAuthority) -> ssl.SSLContext:
    return client_context(*authority.client("web01"))


def shake_hands(server: TlsLayer, client: TlsLayer) -> None:
    """Pass output both ways until there is none."""
    client.start()
    while data := client.data_to_send():
        server.receive_data(data)
        if answer := server.data_to_send():
            client.receive_data(answer)


def connected(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[TlsLayer, TlsLayer]:
    ends = TlsLayer(server), TlsLayer(client, server_name="localhost")
    shake_hands(*ends)
    return ends


def plain_client(authority: PaperAuthority) -> ssl.SSLContext:
    """Create a client without our settings."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.ca)
    return context


def test_handshake_is_mutual_tls_1_3_with_our_alpn(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Both ends use TLS 1.3, and the broker has the client's certificate."""
    one, other = connected(server, client)

    assert (one.state, other.state) == (TlsState.OPEN, TlsState.OPEN)
    assert one._tls.version() == other._tls.version() == "TLSv1.3"
    assert one._tls.selected_alpn_protocol() == "drawwell/1"
    assert one.peer_certificate


def test_bytes_go_both_ways_whole(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Bytes written at one end arrive at the other, over many records."""
    one, other = connected(server, client)
    data = bytes(range(256)) * 1000

    one.write(data)
    other.receive_data(one.data_to_send())
    assert other.read() == data
    other.write(b"back")
    one.receive_data(other.data_to_send())
    assert (one.read(), one.read()) == (b"back", b"")


def test_close_is_seen_at_the_other_end(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A close_notify follows the last bytes; then writing is impossible."""
    one, other = connected(server, client)
    one.write(b"last")
    one.close()
    other.receive_data(one.data_to_send())

    assert other.read() == b"last"
    assert other.state is TlsState.CLOSED
    with pytest.raises(LocalProtocolError):
        one.write(b"more")


def test_broker_gives_no_session_ticket(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Without resumption every connection needs a certificate."""
    one, other = connected(server, client)
    one.write(b"after whatever comes behind a handshake")
    other.receive_data(one.data_to_send())
    assert other.read()

    assert other._tls.session is None or not other._tls.session.has_ticket


def test_client_without_a_certificate_is_not_authenticated(
    authority: PaperAuthority, server: ssl.SSLContext
) -> None:
    """The broker raises an error, and the alert reaches the client."""
    context = plain_client(authority)
    context.set_alpn_protocols([limits.ALPN])
    one, other = TlsLayer(server), TlsLayer(context, server_name="localhost")

    with pytest.raises(AuthenticationFailed):
        shake_hands(one, other)
    other.receive_data(one.data_to_send())
    with pytest.raises(AuthenticationFailed):
        other.read()


def test_certificate_of_another_ca_is_not_authenticated(tmp_path: Path, server: ssl.SSLContext) -> None:
    """A self-signed certificate with the right name is rejected."""
    stranger = PaperAuthority(tmp_path, "test")
    context = client_context(*stranger.client("web01"))
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    with pytest.raises(AuthenticationFailed, match="not trusted"):
        shake_hands(TlsLayer(server), TlsLayer(context, server_name="localhost"))


def test_certificate_that_ran_out_is_left_to_the_registry(
    authority: PaperAuthority, server: ssl.SSLContext
) -> None:
    """OpenSSL ignores a client's dates; the registry checks them."""
    context = client_context(*authority.client("old01", ran_out_s_ago=3600.0))

    one, _ = connected(server, context)

    assert one.state is TlsState.OPEN
    assert one.peer_certificate


def test_certificate_that_ran_out_is_refused_without_renewal(authority: PaperAuthority) -> None:
    """With the owner's own PKI, OpenSSL checks every date up to the CA."""
    server = server_context(*authority.server("localhost"))
    context = client_context(*authority.client("old02", ran_out_s_ago=3600.0))

    with pytest.raises(AuthenticationFailed, match=r"run out|expired"):
        shake_hands(TlsLayer(server), TlsLayer(context, server_name="localhost"))


@pytest.mark.parametrize("name", ["other.example", "127.0.0.2"])
def test_client_rejects_a_broker_of_another_name(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str
) -> None:
    """The enrolled name must be in the broker's certificate."""
    with pytest.raises(AuthenticationFailed):
        shake_hands(TlsLayer(server), TlsLayer(client, server_name=name))


def test_client_rejects_a_broker_of_another_ca(tmp_path: Path, client: ssl.SSLContext) -> None:
    """A broker with the right name and another CA is rejected."""
    impostor = server_context(*PaperAuthority(tmp_path).server("localhost"))

    with pytest.raises(AuthenticationFailed, match="not trusted"):
        shake_hands(TlsLayer(impostor), TlsLayer(client, server_name="localhost"))


def test_client_certificate_does_not_serve_as_a_broker(
    authority: PaperAuthority, client: ssl.SSLContext
) -> None:
    """A consumer's certificate is valid only for clients."""
    posing = server_context(*authority.client("localhost"))

    with pytest.raises(AuthenticationFailed):
        shake_hands(TlsLayer(posing), TlsLayer(client, server_name="localhost"))


@pytest.mark.parametrize("protocols", [[], ["h2"]])
def test_broker_knows_that_no_protocol_was_agreed_on(
    authority: PaperAuthority, server: ssl.SSLContext, protocols: list[str]
) -> None:
    """No protocol and an unknown one look alike; the door decides."""
    certificate, key, _ = authority.client("web02")
    context = plain_client(authority)
    context.load_cert_chain(certificate, key)
    if protocols:
        context.set_alpn_protocols(protocols)
    one = TlsLayer(server)

    shake_hands(one, _WithoutAlpnCheck(context, server_name="localhost"))
    assert (one.state, one.protocol) == (TlsState.OPEN, None)


def test_client_leaves_a_broker_without_our_protocol(authority: PaperAuthority) -> None:
    """A broker needs our ALPN as well as a valid certificate."""
    certificate, key, _ = authority.server("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    client = TlsLayer(client_context(*authority.client("web02")), server_name="localhost")

    with pytest.raises(RemoteProtocolError, match="drawwell/1"):
        shake_hands(TlsLayer(context), client)
    assert client.state is TlsState.CLOSED


@pytest.mark.parametrize("older", ["client", "broker"])
def test_tls_1_2_is_not_spoken(authority: PaperAuthority, older: str) -> None:
    """Neither end accepts another version, with any certificate."""
    server, client = (
        server_context(*authority.server("localhost")),
        client_context(*authority.client("web01")),
    )
    context = client if older == "client" else server
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2

    with pytest.raises(RemoteProtocolError, match=r"version|protocol"):
        shake_hands(TlsLayer(server), TlsLayer(client, server_name="localhost"))


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"a" * 99]
)
def test_garbage_in_place_of_a_handshake_is_the_peers_error(server: ssl.SSLContext, garbage: bytes) -> None:
    """Anything except TLS raises RemoteProtocolError and closes the layer."""
    one = TlsLayer(server)

    with pytest.raises(RemoteProtocolError):
        one.receive_data(garbage)
    assert one.state is TlsState.CLOSED
    one.receive_data(garbage)
    assert one.read() == b""


def test_bytes_before_the_handshake_is_done_are_bounded(server: ssl.SSLContext) -> None:
    """An endless handshake message is dropped at 32 KiB, in any chunks."""
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff".ljust(16384, b"\0")
    one = TlsLayer(server)
    stream = record * 3
    for byte in stream[: limits.MAX_HANDSHAKE_BYTES - 1]:
        one.receive_data(bytes((byte,)))

    with pytest.raises(RemoteProtocolError, match="32768"):
        one.receive_data(stream[limits.MAX_HANDSHAKE_BYTES - 1 :])


def test_handshake_byte_by_byte_is_the_same(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """The handshake completes with chunks of any size."""
    one, other = TlsLayer(server), TlsLayer(client, server_name="localhost")
    other.start()
    while data := other.data_to_send():
        for byte in data:
            one.receive_data(bytes((byte,)))
        for byte in one.data_to_send():
            other.receive_data(bytes((byte,)))

    assert (one.state, other.state) == (TlsState.OPEN, TlsState.OPEN)


def test_tampered_record_is_the_peers_error(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """With one flipped bit, no byte of the record is delivered."""
    one, other = connected(server, client)
    one.write(b"x" * 100)
    data = bytearray(one.data_to_send())
    data[50] ^= 1
    other.receive_data(bytes(data))

    with pytest.raises(RemoteProtocolError):
        other.read()


def test_the_file_that_is_missing_is_named(authority: PaperAuthority) -> None:
    """The error names exactly the file that cannot be read."""
    files = authority.server("localhost")
    for at in range(3):
        chosen = [path if at != index else "/nowhere/it.pem" for index, path in enumerate(files)]
        with pytest.raises(ConfigError, match=r"/nowhere/it\.pem") as caught:
            server_context(*chosen)
        assert [path for path in files if path in str(caught.value)] == []


def test_files_that_cannot_be_used_are_configuration_errors(
    authority: PaperAuthority, tmp_path: Path
) -> None:
    """Bad files are named, and no passphrase is requested on the terminal."""
    certificate, key, ca = authority.server("localhost")
    other_key = authority.client("web03")[1]
    locked = str(tmp_path / "locked.key")
    subprocess.run(["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked], check=True)
    (tmp_path / "empty.pem").write_text("")

    for files in (
        ("/nowhere/broker.pem", key, ca),
        (certificate, "/nowhere/broker.key", ca),
        (certificate, key, "/nowhere/ca.pem"),
        (certificate, other_key, ca),
        (certificate, locked, ca),
        (str(tmp_path / "empty.pem"), key, ca),
        (certificate, key, str(tmp_path / "empty.pem")),
    ):
        with pytest.raises(ConfigError) as caught:
            server_context(*files)
        assert any(path in str(caught.value) for path in files)
        assert caught.value.hint


class _WithoutAlpnCheck(TlsLayer):
    """A client that accepts any negotiated protocol."""

    def _handshake(self) -> bool:
        try:
            return super()._handshake()
        except RemoteProtocolError:
            return True
