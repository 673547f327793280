"""A session between the broker and its signer, in the signer's process."""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, cast

from drawwell.doors.sockets import credentials
from drawwell.errors import RemoteProtocolError
from drawwell.wire import signer_messages as messages

MOST_SESSIONS: Final = 32
TEXT_DEADLINE_S: Final = 10.0
"""Time limit for receiving a whole message, and for the peer to read an answer."""

log = logging.getLogger("drawwell.signer")


class SignerSession(asyncio.Protocol):
    """Answers the requests of one peer in order.

    Args:
        answer: Answers a request from a user.
        users: The users that may send requests.
        sessions: The open sessions.
    """

    def __init__(
        self,
        answer: Callable[[bytes, int], bytes],
        users: Collection[int | None],
        sessions: set["SignerSession"],
    ) -> None:
        self._answer, self._users, self._sessions = answer, users, sessions
        self._uid = -1
        self._buffer = bytearray()
        self._deadline: asyncio.TimerHandle | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the peer if its user is permitted; called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        _, self._uid, _ = credentials(transport.get_extra_info("socket"))
        if self._uid not in self._users or len(self._sessions) >= MOST_SESSIONS:
            transport.close()
        self._sessions.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Remove the session; called by asyncio."""
        self._sessions.discard(self)
        self._wait_for_nothing()

    def data_received(self, data: bytes) -> None:
        """Answer all complete requests; called by asyncio."""
        if self._transport.is_closing():
            return
        self._buffer += data
        self._wait_for_nothing()
        try:
            while (payload := messages.take_payload(self._buffer)) is not None:
                self._transport.write(messages.frame(self._answer(payload, self._uid)))
        except RemoteProtocolError as error:
            self._end(str(error))
        if self._buffer or self._paused:
            self._wait()

    def close(self) -> None:
        """End the session once all answers are sent."""
        self._transport.close()

    def pause_writing(self) -> None:
        """Stop reading while the peer does not read answers; called by asyncio."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading; called by asyncio."""
        self._paused = False
        self._wait_for_nothing()
        self._transport.resume_reading()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(TEXT_DEADLINE_S, self._end, "a message took too long")

    def _wait_for_nothing(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, why: str) -> None:
        log.info("ended the session of user ID %d: %s", self._uid, why)
        self._transport.abort()
