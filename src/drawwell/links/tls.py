"""A link over mutual TLS 1.3."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime

from drawwell.errors import AuthenticationFailed, LinkUnavailable, RemoteProtocolError
from drawwell.links.connect_tcp import connect_tcp
from drawwell.links.link import Link, LinkProtocol
from drawwell.wire.limits import DEFAULT_PORT
from drawwell.wire.session import State
from drawwell.wire.tls import TlsLayer, TlsState

_REFUSED_HINT = (
    "This machine's certificate is revoked or expired, or a clock is wrong. Run 'drawwell doctor'. "
    "If both clocks are right, ask the broker's operator for a new invitation and join again."
)
_NOT_TRUSTED_HINT = "Check the broker's address. If its CA was replaced, join again with a new invitation."

_NAME_HINT = (
    "The broker's certificate has other names. Use one of them, or add this one to the broker's [tls] names."
)


class TlsLink(Link):
    """An Upstream over the network.

    Args:
        host: The broker's name or address.
        port: The broker's port.
        context: Creates the TLS context (wire/contexts.py) for each connection, because the
            certificate might have been renewed.
        server_name: The name in the broker's certificate, by default `host`.
        open_deadline_s: See Link.
        answer_deadline_s: See Link.
    """

    def __init__(
        self,
        host: str,
        port: int = DEFAULT_PORT,
        *,
        context: Callable[[], ssl.SSLContext],
        server_name: str | None = None,
        open_deadline_s: float = 10.0,
        answer_deadline_s: float = 10.0,
    ) -> None:
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        super().__init__(name, open_deadline_s=open_deadline_s, answer_deadline_s=answer_deadline_s)
        self._host = host
        self._port = port
        self._context = context
        self._server_name = server_name or host

    async def _connect(self) -> LinkProtocol:
        tls = TlsLayer(self._context(), server_name=self._server_name)
        loop = asyncio.get_running_loop()
        sock = await connect_tcp(self._host, self._port)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        _transport, protocol = await loop.create_connection(
            lambda: TlsLinkProtocol(self.name, tls), sock=sock
        )
        return protocol


def _is_about_dates(error: AuthenticationFailed) -> bool:
    return any(reason in str(error) for reason in ("not yet valid", "has expired"))


def _clock_hint() -> str:
    shown = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"This machine's clock shows {shown}. If this is right, the broker's clock is or was wrong. A minute after "
        "its clock is corrected, the broker has a valid certificate."
    )


class TlsLinkProtocol(LinkProtocol):
    """The client's end of a session over TLS."""

    def __init__(self, broker: str, tls: TlsLayer) -> None:
        super().__init__(broker)
        self._tls = tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake; the hello follows it (asyncio)."""
        self._tls.start()
        self.transport = transport  # type: ignore[assignment]
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Process ciphertext (asyncio)."""
        try:
            shaking = self._tls.state is TlsState.HANDSHAKE
            self._tls.receive_data(data)
            if shaking and self._tls.state is TlsState.OPEN:
                super().connection_made(self.transport)  # type: ignore[arg-type]
            plaintext = self._tls.read()
        except RemoteProtocolError as error:
            self._flush()
            self.fail(self._explained(error))
            return
        self._flush()
        self.converse(plaintext)
        if self._tls.state is TlsState.CLOSED:
            self._closed_by_broker()

    def send(self, data: bytes) -> None:
        """Encrypt and send the session's output."""
        if self._tls.state is TlsState.OPEN:
            self._tls.write(data)
            self._flush()

    def close(self) -> None:
        """Send a goodbye and close."""
        if self.transport is not None and self.session.state is State.OPEN:
            self.send(self.session.bye())
            self._tls.close()
            self._flush()
            self.transport.close()
        super().close()

    def _flush(self) -> None:
        data = self._tls.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)

    def _closed_by_broker(self) -> None:
        """Handle a close; before the welcome, it means a refused certificate."""
        if self.session.state is State.GREETED:
            self.fail(AuthenticationFailed(f"{self._broker} refused our certificate", hint=_REFUSED_HINT))
        else:
            self.fail(LinkUnavailable(f"{self._broker} closed the connection"))

    def _explained(self, error: RemoteProtocolError) -> AuthenticationFailed | LinkUnavailable:
        if not isinstance(error, AuthenticationFailed):
            return LinkUnavailable(
                f"cannot connect to {self._broker}: {error}", hint="Check that it is a drawwell broker."
            )
        ours = self.session.state is State.GREETED
        hint = _REFUSED_HINT if ours else _clock_hint() if _is_about_dates(error) else _NOT_TRUSTED_HINT
        if "mismatch" in str(error):
            hint = _NAME_HINT
        return AuthenticationFailed(f"{self._broker}: {error}", hint=hint)
