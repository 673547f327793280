"""A consumer's link: one session over one transport, opened at the first draw and again after a loss.

Everything that waits, waits for a bounded time. A draw is never sent twice: when its answer does not come, the
bytes are lost, and the caller is told.
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
    """The client's end of a session on a transport. `welcome` is done when there may be requests."""

    def __init__(self, broker: str) -> None:
        self.session = ClientSession()
        self.transport: asyncio.Transport | None = None
        self.welcome: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._broker = broker

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet (asyncio)."""
        self.transport = cast("asyncio.Transport", transport)
        self.send(self.session.hello(f"drawwell {__version__}"))

    def data_received(self, data: bytes) -> None:
        """Take the broker's words (asyncio)."""
        self.converse(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait (asyncio)."""
        self.transport = None
        self.fail(requests.broken(self._broker, exc))

    def converse(self, data: bytes) -> None:
        """Feed the session and hand out what came."""
        self.session.receive_data(data)
        try:
            while (event := self.session.next_event()) is not None:
                self._handle(event)
        except RemoteProtocolError as error:
            self.fail(requests.broke_protocol(self._broker, error))

    def send(self, data: bytes) -> None:
        """Send the session's words."""
        if self.transport is not None:
            self.transport.write(data)

    def ask(self, request: tuple[int, bytes]) -> asyncio.Future[Any]:
        """Send a request; the answer comes in the future."""
        request_id, data = request
        answer = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        self.send(data)
        return answer

    def fail(self, error: DrawwellError) -> None:
        """End it: everybody who waits gets `error`."""
        for waiting in (self.welcome, *self._answers.values()):
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # seen: who was waiting may have gone
        self._answers.clear()
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Say goodbye and close."""
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
    """An Upstream over one broker; `_connect` says how it is reached.

    Args:
        name: The broker's address, for reports and errors.
        open_deadline_s: For connecting, handshake and welcome together.
        answer_deadline_s: For one answer. Then the link is given up: what comes later is nobody's.
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
        """How often a session was opened: who asks twice and sees it unchanged has asked the same process."""
        self.renew_only = False
        """Did the last welcome allow a renewal and nothing else?"""

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
        """Ask a control verb (Upstream)."""
        requests.check_arguments(verb, args)
        document: dict[str, Any] = await self._ask(lambda session: session.call(verb, args))
        return document

    async def welcome(self) -> Welcome:
        """Open the link if need be, and say what the broker called itself and us; raises as `draw`."""
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
        """Send a request and wait for its answer; its place is taken until that is here, waited for or not."""
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
            error = requests.unreachable(self._name, f"no answer within {deadline_s:g} s")
            protocol.fail(error)
            raise error from None
