"""Talking with a OneRNG over a terminal: asking, dumping, stopping and starting it, each bounded in time.

The device acknowledges nothing, and V3 firmware sends up to 65,472 stale zeros after each reply. So every
question ends by pausing it, flushing its pool and draining the line, and nothing that is read in between is noise.
"""

import asyncio
from typing import Final, TypeVar

from drawwell.drivers.tty import BUFFER_BYTES, Tty
from drawwell.errors import SourceStalled, SourceUnavailable
from drawwell.onerng.commands import Command, Mode
from drawwell.onerng.image import Image, ImageReceiver, UnreadableImage
from drawwell.onerng.replies import IdentityReply, ReplyParser, VersionReply

_QUIET_S: Final = 0.05
"""A paused device is quiet for this long before the line counts as drained; packets in flight take microseconds."""
_DRAIN_LIMIT_S: Final = 2.0
_REPLY_LIMIT_S: Final = 1.0
_QUESTION_TRIES: Final = 3
_DUMP_LIMIT_S: Final = 10.0
"""A dump takes 1.5 to 3.5 s (the vendor's scripts wait so long); a loaded host takes longer."""
_DUMP_STALL_S: Final = 2.0
_DUMP_TRIES: Final = 3
_START_LIMIT_S: Final = 5.0
_START_WAIT_S: Final = (
    0.1  # the vendor's script asks up to 200 times, 50 ms apart, of a device just plugged in
)

ReplyT = TypeVar("ReplyT", VersionReply, IdentityReply)


class Dialogue:
    """What can be said to a OneRNG. After every call but `start` it is paused, its pool empty, the line quiet.

    Each call raises SourceUnavailable when the device goes away or does not do as it is told.
    """

    def __init__(self, tty: Tty) -> None:
        self._tty = tty

    async def tell(self, *commands: bytes) -> None:
        """Send commands and expect nothing."""
        await self._tty.write(b"".join(commands))

    async def stop(self) -> None:
        """Pause it, empty its pool, and throw away what is on the way."""
        await self.tell(Command.PAUSE.value, Command.FLUSH.value)
        await self._tty.drain(quiet_s=_QUIET_S, limit_s=_DRAIN_LIMIT_S)

    async def start(self, mode: Mode) -> None:
        """Let it run in `mode`, from an empty pool and a quiet line."""
        await self.stop()
        await self.tell(mode.command, Command.RUN.value)

    async def wake(self) -> None:
        """Ask until it gives a byte: a device that was just plugged in may not answer at once.

        Raises:
            SourceUnavailable: it gave none within five seconds.
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
                    f"{self._tty.path} gives no byte",
                    hint="Is it a OneRNG? Pull it out and plug it in again.",
                )

    async def version(self) -> int:
        """Ask the firmware's version.

        Raises:
            SourceUnavailable: no answer.
        """
        for _ in range(_QUESTION_TRIES):
            reply = await self._ask(Command.VERSION, VersionReply)
            if reply:
                return reply.version
        raise SourceUnavailable(
            f"{self._tty.path} does not answer as a OneRNG does", hint="Is it one? Type 'drawwell doctor'."
        )

    async def hardware_id(self) -> str:
        """Ask the 128-bit ID; "" when it gives none, as firmware before version 3 does not."""
        reply = await self._ask(Command.IDENTITY, IdentityReply)
        return reply.hardware_id if reply else ""

    async def image(self) -> Image:
        """Have the firmware image sent, again when a dump is short.

        Raises:
            UnreadableImage: no dump was whole.
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
