"""Queries and commands to a OneRNG on a terminal, with timeouts.

The device sends no acknowledgements, and V3 firmware sends up to 65,472 stale zeros after a
reply. Every query therefore ends by pausing the device, flushing its pool and draining the
line. Bytes that are read in the meantime do not count as noise.
"""

import asyncio
from typing import Final, TypeVar

from drawwell.drivers.tty import BUFFER_BYTES, Tty
from drawwell.errors import SourceStalled, SourceUnavailable
from drawwell.onerng.commands import Command, Mode
from drawwell.onerng.image import Image, ImageReceiver, UnreadableImage
from drawwell.onerng.replies import IdentityReply, ReplyParser, VersionReply

_QUIET_S: Final = 0.05
"""The line of a paused device counts as drained after this silence. Packets in flight take
microseconds.
"""
_DRAIN_LIMIT_S: Final = 2.0
_REPLY_LIMIT_S: Final = 1.0
_QUESTION_TRIES: Final = 3
_DUMP_LIMIT_S: Final = 10.0
"""A dump takes 1.5 to 3.5 s with the vendor's scripts, and longer on a loaded host."""
_DUMP_STALL_S: Final = 2.0
_DUMP_TRIES: Final = 3
_START_LIMIT_S: Final = 5.0
_START_WAIT_S: Final = 0.1  # the vendor's script queries up to 200 times after plugging in, every 50 ms

ReplyT = TypeVar("ReplyT", VersionReply, IdentityReply)


class Dialogue:
    """Exchanges with a OneRNG; all but `start` leave it paused and empty.

    The line is then quiet. All methods raise SourceUnavailable if the device is gone or
    ignores commands.
    """

    def __init__(self, tty: Tty) -> None:
        self._tty = tty

    async def tell(self, *commands: bytes) -> None:
        """Send commands that have no reply."""
        await self._tty.write(b"".join(commands))

    async def stop(self) -> None:
        """Pause the device, empty its pool, and discard data in flight."""
        await self.tell(Command.PAUSE.value, Command.FLUSH.value)
        await self._tty.drain(quiet_s=_QUIET_S, limit_s=_DRAIN_LIMIT_S)

    async def start(self, mode: Mode) -> None:
        """Start the device in `mode`, with an empty pool and a quiet line."""
        await self.stop()
        await self.tell(mode.command, Command.RUN.value)

    async def wake(self) -> None:
        """Query the device until it sends a byte; this may take seconds.

        Raises:
            SourceUnavailable: the device sent nothing within five seconds.
        """
        deadline = _now() + _START_LIMIT_S
        while True:
            await self.tell(Mode.DEFAULT.command, Command.RUN.value)
            data = await self._tty.read(BUFFER_BYTES, _START_WAIT_S)
            await self.tell(Command.PAUSE.value, Command.SILENT.value, Command.FLUSH.value)
            if data:
                return await self.stop()
            if _now() > deadline:
                raise SourceStalled(
                    f"{self._tty.path} sends nothing",
                    hint="If it is a OneRNG, unplug it and plug it in again.",
                )

    async def version(self) -> int:
        """Return the firmware version.

        Raises:
            SourceUnavailable: the device did not answer.
        """
        for _ in range(_QUESTION_TRIES):
            reply = await self._ask(Command.VERSION, VersionReply)
            if reply:
                return reply.version
        raise SourceUnavailable(
            f"{self._tty.path} does not answer like a OneRNG", hint="'drawwell doctor' shows what it is."
        )

    async def hardware_id(self) -> str:
        """Return the 128-bit ID; "" for firmware before version 3."""
        reply = await self._ask(Command.IDENTITY, IdentityReply)
        return reply.hardware_id if reply else ""

    async def image(self) -> Image:
        """Return the firmware image; retry if a dump is incomplete.

        Raises:
            UnreadableImage: no dump was complete.
        """
        for _ in range(_DUMP_TRIES - 1):
            try:
                return await self._image_once()
            except UnreadableImage:
                continue
        return await self._image_once()

    async def _image_once(self) -> Image:
        receiver, deadline = ImageReceiver(), _now() + _DUMP_LIMIT_S
        await self._put(Command.DUMP)
        while (missing := receiver.missing_bytes) and _now() < deadline:
            data = await self._tty.read(min(missing, BUFFER_BYTES), _DUMP_STALL_S)
            if not data:
                break
            receiver.feed(data)
        await self.stop()
        return receiver.image()

    async def _ask(self, question: Command, kind: type[ReplyT]) -> ReplyT | None:
        parser, deadline, answer = ReplyParser(), _now() + _REPLY_LIMIT_S, None
        await self._put(question)
        while answer is None and (left := deadline - _now()) > 0:
            replies = parser.feed(await self._tty.read(BUFFER_BYTES, left))
            answer = next((reply for reply in replies if isinstance(reply, kind)), None)
        await self.stop()
        return answer

    async def _put(self, question: Command) -> None:
        await self.stop()
        await self.tell(Command.SILENT.value, Command.FLUSH.value, question.value, Command.RUN.value)


def _now() -> float:
    return asyncio.get_running_loop().time()
