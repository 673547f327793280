"""One session with one broker behind it: frames in, answers out. Knows neither sockets nor TLS.

A draw is begun at once, without a task: most never wait. What waits goes on as a task of the door. Answers go out
in the order in which they are ready. What is begun and not yet answered is bounded by MAX_OPEN_REQUESTS and by
MAX_OWED_BYTES.
"""

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

from drawwell.authorisation import DRAW, DoorKind, Principal, Role, may
from drawwell.entropy.blocks import Grant
from drawwell.errors import (
    DrawwellError,
    LocalProtocolError,
    PermissionRefused,
    RemoteProtocolError,
    UsageError,
)
from drawwell.ports import Broker, Peer
from drawwell.wire.frames import Bye, Call, Draw, Frame, Hello
from drawwell.wire.limits import SESSION_ID
from drawwell.wire.session import ServerSession

T = TypeVar("T")
MAX_OWED_BYTES: Final = 262_144
"""Bytes of draws begun and not answered: four of the largest."""


class BrokerSession:
    """Answers one peer.

    Args:
        broker: Who is asked.
        broker_name: How it is called in the welcome.
        identify: Says who the peer is, now; raises PermissionRefused when he is nobody, or no longer anybody.
            Asked before each request.
        way: Which door it is.
        owner: The kernel says that the peer is root or the broker's own user.
        spawn: Runs the rest of a request that waits.
    """

    def __init__(
        self,
        broker: Broker,
        broker_name: str,
        identify: Callable[[], Peer],
        *,
        way: DoorKind,
        owner: bool = False,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.session = ServerSession()
        self.admitted = False
        self.consumer = ""
        """Whom it was welcomed as."""
        self.over = False
        """Nothing more is said: send what is left in `outgoing` and close."""
        self.fault = ""
        """What the peer did wrong, when that is why it is over."""
        self.events = 0
        self.outgoing: list[bytes] = []
        self.outgoing_bytes = 0
        self._broker = broker
        self._broker_name = broker_name
        self._identify = identify
        self._way = way
        self._owner = owner
        self._spawn = spawn
        self._owed_bytes = 0

    @property
    def stalled(self) -> bool:
        """Whether so much is owed that no more requests are looked at."""
        return self._owed_bytes >= MAX_OWED_BYTES

    @property
    def part(self) -> int | None:
        """Which frame is here in part, as a count; None when there is none, or we keep it waiting ourselves."""
        return None if self.stalled or not self.session.unparsed_bytes else self.events

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take what came from the peer."""
        self.session.receive_data(data)

    def step(self) -> bool:
        """Handle one frame; False when there is none to handle now."""
        if self.over or self.stalled:
            return False
        try:
            event = self.session.next_event()
        except RemoteProtocolError as error:
            self.fault = str(error)
            self.end(self.fault)
            return False
        if event is None:
            return False
        self.events += 1
        self._handle(event)
        return True

    def take_outgoing(self) -> bytes:
        """Take what must be sent."""
        data = b"".join(self.outgoing)
        self.outgoing.clear()
        self.outgoing_bytes = 0
        return data

    def recheck(self) -> None:
        """End it unless the peer is still who it was welcomed as."""
        try:
            if self._identify().consumer == self.consumer:
                return
            self.end(f"this is no longer consumer {self.consumer}")
        except PermissionRefused as error:
            self.end(str(error))

    def end(self, reason: str) -> None:
        """Say goodbye, unless it has been said."""
        if not self.over:
            self._say(self.session.bye(reason))
            self.over = True

    def _handle(self, event: Frame) -> None:
        if isinstance(event, Bye):
            self.over = True
            return
        request_id = event.request_id if isinstance(event, Draw | Call) else SESSION_ID
        try:
            peer = self._identify()
        except PermissionRefused as error:
            self._say(self.session.refuse(request_id, error))
            if not isinstance(event, Hello):
                self._say(self.session.bye(str(error)))
            self.over = True
            return
        if isinstance(event, Draw):
            self._draw(event, peer)
        elif isinstance(event, Call):
            self._call(event, peer)
        else:
            self._say(self.session.welcome(self._broker_name, peer.consumer, renew_only=peer.renew_only))
            self.consumer, self.admitted = peer.consumer, True

    def _draw(self, draw: Draw, peer: Peer) -> None:
        self._owed_bytes += draw.n_bytes
        try:
            may(self._way, self._identity(peer), DRAW)
        except PermissionRefused as error:
            self._refuse(draw, error)
            return
        coroutine = self._broker.draw(
            peer.consumer,
            draw.n_bytes,
            draw.draw_class,
            prediction_resistance=draw.prediction_resistance,
            receipt=draw.receipt,
            patience_s=draw.patience_ms / 1000,
        )
        try:
            waits_for = coroutine.send(None)
        except StopIteration as finished:
            self._grant(draw, finished.value)
        except DrawwellError as error:
            self._refuse(draw, error)
        else:
            self._spawn(self._finish(draw, coroutine, waits_for))

    async def _finish(self, draw: Draw, coroutine: Coroutine[Any, Any, Grant], waits_for: object) -> None:
        try:
            grant = await resumed(coroutine, waits_for)
        except DrawwellError as error:
            self._refuse(draw, error)
        else:
            self._grant(draw, grant)

    def _call(self, call: Call, peer: Peer) -> None:
        try:
            may(self._way, self._identity(peer), call.verb)
        except (PermissionRefused, UsageError) as error:
            self._refuse(call, error)
            return
        caller = "observer" if peer.observes and not self._owner else f"consumer:{peer.consumer}"
        as_owner = self._owner and self._way is DoorKind.CONTROL
        self._spawn(self._answer(call, "owner" if as_owner else caller))

    def _identity(self, peer: Peer) -> Principal:
        return Principal(Role.OWNER, peer.consumer) if self._owner else peer.identity

    async def _answer(self, call: Call, caller: str) -> None:
        try:
            document = await self._broker.call(caller, call.verb, call.args)
        except DrawwellError as error:
            self._refuse(call, error)
            return
        if self.over:
            return
        try:
            self._say(self.session.result(call.request_id, document))
        except LocalProtocolError:
            too_large = UsageError(
                f"the answer to {call.verb} is larger than 1 MiB", hint="Ask for less of it at a time."
            )
            self._refuse(call, too_large)

    def _grant(self, draw: Draw, grant: Grant) -> None:
        self._owed_bytes -= draw.n_bytes
        if not self.over:
            self._say(self.session.grant(draw.request_id, grant))

    def _refuse(self, request: Draw | Call, error: DrawwellError) -> None:
        if isinstance(request, Draw):
            self._owed_bytes -= request.n_bytes
        if not self.over:
            self._say(self.session.refuse(request.request_id, error))

    def _say(self, data: bytes) -> None:
        self.outgoing.append(data)
        self.outgoing_bytes += len(data)


@types.coroutine
def resumed(coroutine: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Go on with a coroutine that has been sent None once and waits for `waits_for`."""
    error: BaseException | None = None
    try:
        while True:
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - handed on, above all a cancellation
                error = thrown
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            error = None
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
