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
    "Its certificate here may be revoked or have run out, or one of the two clocks is wrong ('drawwell doctor'): "
    "if both are right, ask the broker's owner for a new invitation (drawwell consumer invite) and join again."
)
_NOT_TRUSTED_HINT = "Check the broker's address; if its CA was replaced, join again with a new invitation."

_NAME_HINT = (
    "The broker's certificate has other names: draw by one of them, or add this one to [tls] names there."
)


class TlsLink(Link):
    """An Upstream across the network.

    Args:
        host: Name or address of the broker.
        port: Its port.
        context: Makes the TLS context (wire.contexts.client_context); asked at each connection, so that a renewed
            certificate is taken up.
        server_name: The name that its certificate must bear; `host` when it is not given.
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
        f"This machine's clock shows {shown}. If that is right, the broker's clock is or was wrong: a minute after "
        "it is right the broker has a certificate that is valid now."
    )


class TlsLinkProtocol(LinkProtocol):
    """The client's end with TLS under it."""

    def __init__(self, broker: str, tls: TlsLayer) -> None:
        super().__init__(broker)
        self._tls = tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands; the greeting comes after (asyncio)."""
        self._tls.start()
        self.transport = transport  # type: ignore[assignment]
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take ciphertext (asyncio)."""
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
        """Send the session's words, encrypted."""
        if self._tls.state is TlsState.OPEN:
            self._tls.write(data)
            self._flush()

    def close(self) -> None:
        """Say goodbye and close."""
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
        """Understand an orderly close: without a welcome before it, it is a no to our certificate."""
        if self.session.state is State.GREETED:
            self.fail(
                AuthenticationFailed(f"{self._broker} does not take our certificate", hint=_REFUSED_HINT)
            )
        else:
            self.fail(LinkUnavailable(f"{self._broker} closed the link"))

    def _explained(self, error: RemoteProtocolError) -> AuthenticationFailed | LinkUnavailable:
        if not isinstance(error, AuthenticationFailed):
            return LinkUnavailable(f"cannot talk to {self._broker}: {error}", hint="Is it a drawwell broker?")
        ours = self.session.state is State.GREETED
        hint = _REFUSED_HINT if ours else _clock_hint() if _is_about_dates(error) else _NOT_TRUSTED_HINT
        if "mismatch" in str(error):
            hint = _NAME_HINT
        return AuthenticationFailed(f"{self._broker}: {error}", hint=hint)
