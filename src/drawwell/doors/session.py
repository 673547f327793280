"""A session in drawwell's own protocol: frames in, answers out, no I/O.

A draw is first tried without waiting, because most draws need not wait. A draw that must wait
becomes a task of the door. Answers are sent in the order in which they are ready.
MAX_OPEN_REQUESTS and MAX_OWED_BYTES limit the unanswered requests.
"""

from collections.abc import Callable
from typing import Final

from drawwell.authorisation import DRAW, DoorKind, Principal, Role, may
from drawwell.doors.session_machine import SessionMachine, Spawn
from drawwell.entropy.blocks import Grant
from drawwell.errors import (
    DrawwellError,
    LocalProtocolError,
    PermissionRefused,
    RemoteProtocolError,
    StateUnavailable,
    UsageError,
)
from drawwell.ports import Broker
from drawwell.wire.frames import Bye, Call, Draw, Frame, Hello
from drawwell.wire.limits import SESSION_ID
from drawwell.wire.session import ServerSession

MAX_OWED_BYTES: Final = 262_144
"""The limit of unanswered draws in bytes: four draws of the largest size."""


class BrokerSession(SessionMachine):
    """Answers one peer in drawwell's own protocol.

    Args:
        broker_name: The broker's name in the welcome.
    """

    stalled = False
    """Whether processing is paused because too many bytes are owed."""

    def __init__(
        self,
        broker: Broker,
        broker_name: str,
        identify: Callable[[], Principal],
        *,
        way: DoorKind,
        spawn: Spawn,
    ) -> None:
        session, outgoing = ServerSession(), list[bytes]()
        super().__init__(
            broker, identify, way=way, spawn=spawn, receive_data=session.receive_data, outgoing=outgoing
        )
        self.session = session
        self.events = 0
        self._say = outgoing.append
        self._broker_name = broker_name
        self._owed_bytes = 0
        self._may_draw: Principal | None = None
        """The last principal that was allowed to draw; this right never changes."""

    @property
    def part(self) -> int | None:
        """The number of the incomplete frame, or None (also if we delay it)."""
        return None if self.stalled or not self.session.unparsed_bytes else self.events

    def step(self) -> bool:
        """Handle one frame, if complete; return whether to try the next."""
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
        return not self.session.parser.empty

    def end(self, reason: str) -> None:
        """Send a goodbye unless the session is over."""
        if not self.over:
            self._say(self.session.bye(reason))
            self.over = True

    def _handle(self, event: Frame) -> None:
        if isinstance(event, Bye):
            self.over = True
            return
        try:
            peer = self._identify()
        except (PermissionRefused, StateUnavailable) as error:
            request_id = event.request_id if isinstance(event, Draw | Call) else SESSION_ID
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
            self._say(
                self.session.welcome(self._broker_name, peer.name, renew_only=peer.role is Role.EXPIRED)
            )
            self.consumer, self.admitted = peer.name, True

    def _draw(self, draw: Draw, peer: Principal) -> None:
        try:
            if peer is not self._may_draw:
                may(self._way, peer, DRAW)
                self._may_draw = peer
            grant = self._broker.try_draw(peer, draw)
        except DrawwellError as error:
            self._refuse(draw, error)
            return
        if grant is None or grant.unsigned:
            self._owe(draw.n_bytes)
            self._spawn(self._wait(draw, peer, grant))
        else:
            self._say(self.session.grant(draw.request_id, grant))

    async def _wait(self, draw: Draw, peer: Principal, grant: Grant | None) -> None:
        try:
            if grant is None:
                grant = await self._broker.draw(peer, draw)
            grant = await self._broker.sign(grant)
        except DrawwellError as error:
            self._refuse(draw, error)
        else:
            if not self.over:
                self._say(self.session.grant(draw.request_id, grant))
        finally:
            self._owe(-draw.n_bytes)

    def _call(self, call: Call, peer: Principal) -> None:
        try:
            may(self._way, peer, call.verb)
        except (PermissionRefused, UsageError) as error:
            self._refuse(call, error)
            return
        self._spawn(self._answer(call, peer))

    async def _answer(self, call: Call, peer: Principal) -> None:
        try:
            document = await self._broker.call(peer, call.verb, call.args)
        except DrawwellError as error:
            self._refuse(call, error)
            return
        if self.over:
            return
        try:
            self._say(self.session.result(call.request_id, document))
        except LocalProtocolError:
            too_large = UsageError(
                f"the answer to {call.verb} is larger than 1 MiB", hint="Request a smaller part at a time."
            )
            self._refuse(call, too_large)

    def _refuse(self, request: Draw | Call, error: DrawwellError) -> None:
        if not self.over:
            self._say(self.session.refuse(request.request_id, error))

    def _owe(self, n_bytes: int) -> None:
        self._owed_bytes += n_bytes
        self.stalled = self._owed_bytes >= MAX_OWED_BYTES
