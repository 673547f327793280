"""A consumer's link: a session over a transport, reopened if lost.

Every wait is bounded. A draw is never sent twice. If its answer is lost, the bytes are lost,
and the caller gets an error.
"""

import abc
import asyncio
from collections.abc import Callable
from typing import Any, Unpack, cast

from drawwell import __version__
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import DrawwellError, LinkUnavailable, RemoteProtocolError
from drawwell.links import requests
from drawwell.links.suspicion import Suspicion
from drawwell.wire import limits
from drawwell.wire.frames import Bye, Frame, Granted, Refusal, Result, Welcome
from drawwell.wire.refusals import to_error
from drawwell.wire.session import ClientSession, State


class LinkProtocol(asyncio.Protocol):
    """The client's end of a session; after `welcome`, requests can follow."""

    def __init__(self, broker: str) -> None:
        self.session = ClientSession()
        self.transport: asyncio.Transport | None = None
        self.welcome: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._broker = broker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the hello (asyncio)."""
        self.transport = cast("asyncio.Transport", transport)
        self.send(self.session.hello(f"drawwell {__version__}"))

    def data_received(self, data: bytes) -> None:
        """Process the broker's frames (asyncio)."""
        self.converse(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail all waiters (asyncio)."""
        self.transport = None
        self.fail(requests.broken(self._broker, exc))

    def converse(self, data: bytes) -> None:
        """Pass data to the session, and dispatch the resulting events."""
        self.session.receive_data(data)
        try:
            while (event := self.session.next_event()) is not None:
                self._handle(event)
        except RemoteProtocolError as error:
            self.fail(requests.broke_protocol(self._broker, error))

    def send(self, data: bytes) -> None:
        """Send the session's output."""
        if self.transport is not None:
            self.transport.write(data)

    def ask(self, request: tuple[int, bytes]) -> asyncio.Future[Any]:
        """Send a request; return the future of its answer."""
        request_id, data = request
        answer = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        self.send(data)
        return answer

    def fail(self, error: DrawwellError) -> None:
        """Close the connection, and raise `error` in all waiters."""
        for waiting in (self.welcome, *self._answers.values()):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # mark it as retrieved, because its waiter may be gone
        self._answers.clear()
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Send a goodbye and close."""
        if self.transport is not None and self.session.state is State.OPEN:
            self.send(self.session.bye())
            self.transport.close()
        self.fail(LinkUnavailable(f"the link to {self._broker} was closed"))

    def _handle(self, event: Frame) -> None:
        if isinstance(event, Welcome):
            if not self.welcome.done():
                self.welcome.set_result(event)
        elif isinstance(event, Bye):
            self.fail(requests.closed_session(self._broker, event.reason))
        elif isinstance(event, Refusal) and event.request_id == limits.SESSION_ID:
            self.fail(to_error(event))
        elif isinstance(event, Granted | Result | Refusal):
            answer = self._answers.pop(event.request_id)
            if not answer.done():
                _settle(answer, event)


def _settle(answer: asyncio.Future[Any], event: Granted | Result | Refusal) -> None:
    if isinstance(event, Refusal):
        answer.set_exception(to_error(event))
    elif isinstance(event, Result):
        answer.set_result(event.document)
    else:
        answer.set_result(event)


class Link(abc.ABC):
    """An Upstream to one broker. Subclasses connect in `_connect`.

    Args:
        name: The broker's address, for reports and errors.
        open_deadline_s: The deadline for connection, handshake and welcome together.
        answer_deadline_s: The deadline for an answer, after which the link is closed.
    """

    def __init__(
        self,
        name: str,
        *,
        open_deadline_s: float = requests.OPEN_DEADLINE_S,
        answer_deadline_s: float = requests.ANSWER_DEADLINE_S,
    ) -> None:
        self._name = name
        self._open_deadline_s = open_deadline_s
        self._answer_deadline_s = answer_deadline_s
        self._protocol: LinkProtocol | None = None
        self._suspicion = Suspicion()
        self._opening = asyncio.Lock()
        self._places = asyncio.Semaphore(limits.MAX_OPEN_REQUESTS)
        self.sessions = 0
        """The number of opened sessions; if unchanged, the same process still answers."""
        self.renew_only = False
        """Whether the last welcome allows only a renewal."""

    @property
    def name(self) -> str:
        """The broker's address, for reports."""
        return self._name

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw once (Upstream)."""
        request = requests.draw_request(n_bytes, draw_class, **options)
        grant: Grant = await self._ask(lambda session: session.draw(request), request.patience_s)
        self._suspicion.look(grant)
        return grant

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call a control verb (Upstream)."""
        requests.check_arguments(verb, args)
        document: dict[str, Any] = await self._ask(lambda session: session.call(verb, args))
        return document

    async def welcome(self) -> Welcome:
        """Open the link if necessary; return its welcome; same errors as `draw`."""
        return (await self._opened()).welcome.result()

    async def aclose(self) -> None:
        """Close the link (Upstream)."""
        if self._protocol is not None:
            self._protocol.close()
            self._protocol = None
            await asyncio.sleep(0)

    @abc.abstractmethod
    async def _connect(self) -> LinkProtocol:
        """Connect; raises OSError or a DrawwellError."""

    async def _opened(self) -> LinkProtocol:
        async with self._opening:
            protocol = self._protocol
            if protocol is None or protocol.session.state is not State.OPEN or protocol.transport is None:
                self._protocol = None
                self._protocol = protocol = await self._open()
                self.sessions += 1
        return protocol

    async def _open(self) -> LinkProtocol:
        protocol: LinkProtocol | None = None
        try:
            async with asyncio.timeout(self._open_deadline_s):
                protocol = await self._connect()
                self.renew_only = (await asyncio.shield(protocol.welcome)).renew_only
        except TimeoutError:
            raise requests.unreachable(self._name, f"no welcome within {self._open_deadline_s:g} s") from None
        except OSError as error:
            raise requests.unreachable(self._name, requests.reason(error)) from None
        finally:
            if protocol is not None and protocol.session.state is not State.OPEN:
                protocol.close()
        return protocol

    async def _ask(
        self, request: Callable[[ClientSession], tuple[int, bytes]], patience_s: float = 0.0
    ) -> Any:
        """Send a request and await the answer; the request outlives cancellation."""
        deadline_s = self._answer_deadline_s + patience_s
        await self._places.acquire()
        try:
            protocol = await self._opened()
            answer = protocol.ask(request(protocol.session))
        except BaseException:
            self._places.release()
            raise
        answer.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.shield(answer)
        except TimeoutError:
            error = requests.unanswered(self._name, deadline_s)
            protocol.fail(error)
            raise error from None
