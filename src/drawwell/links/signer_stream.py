"""A connection to the signer on the event loop, to sign without a thread."""

import asyncio
from typing import Self, cast

from drawwell.errors import RemoteProtocolError
from drawwell.wire import signer_messages as messages


class SignerStream(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._buffer = bytearray()

    @classmethod
    async def open(cls, path: str) -> Self:
        """Connect; raises OSError."""
        _, stream = await asyncio.get_running_loop().create_unix_connection(cls, path)
        return stream

    @property
    def ended(self) -> bool:
        """Whether the connection is closed."""
        return self._transport is None

    async def exchange(self, payload: bytes, deadline_s: float) -> bytes:
        """Return the answer; a failure or cancellation closes the connection.

        Raises:
            OSError, EOFError: no answer within `deadline_s` seconds, or the connection closed.
            RemoteProtocolError: the answer is not a valid message.
        """
        if self._transport is None:
            raise EOFError("the signer closed the connection")
        loop = asyncio.get_running_loop()
        self._answer = answer = asyncio.Future[bytes](loop=loop)
        timer = loop.call_later(deadline_s, self._fail, TimeoutError("timed out"))
        try:
            self._transport.write(messages.frame(payload))
            return await answer
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()
            self._answer = None

    def close(self) -> None:
        """Close the connection."""
        if self._transport:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport (asyncio)."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Process input (asyncio)."""
        self._buffer += data
        try:
            if (payload := messages.take_payload(self._buffer)) is not None:
                self._finish(payload)
        except RemoteProtocolError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Fail the waiting request (asyncio)."""
        self._transport = None
        self._fail(EOFError("the signer closed the connection"))

    def _finish(self, payload: bytes) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(payload)
        else:
            self.close()  # an answer without a request

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)
