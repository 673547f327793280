"""The virtual OneRNG: the commands of the real one, for a device that has no noise, no pool and no firmware of its own.

Its bytes are drawn of a broker when they are asked for. It takes the commands as the real one does (a byte-wise parser,
nothing acknowledged, paused at power-on) and honours or refuses them:

    cmdO, cmdo    stream, stop streaming
    cmd0          the default: conditioned bytes
    cmd4, cmd5    no noise: it is silent
    cmd1 2 3 6 7  raw noise, or noise of the radio: not to be had; silent until another mode is set
    cmdw          nothing is held that could be flushed
    cmdv, cmdI    version 3; an ID that is made of the guest's name
    cmdX          refused with a line of words: there is no image, and none is made up

A refusal is a silence that the host can see (`refusing`), never other bytes than those that were asked for.
"""

from typing import Final

from drawwell.onerng.commands import HEX, CommandReader, Mode

NO_IMAGE: Final = b"\r\nThis is a virtual OneRNG: it has no firmware to verify\r\n"
_VERSION: Final = b"\r\nVersion 3\r\n"


class VirtualOneRng:
    """What the guest told it, and what it owes for that.

    Args:
        hardware_id: 32 hexadecimal digits, what ``cmdI`` answers.
    """

    def __init__(self, hardware_id: str) -> None:
        self.paused = True
        self.mode = Mode.DEFAULT
        self.refusals = 0
        """How often a command was refused."""
        self._hardware_id = hardware_id
        self._reply = b""
        self._commands = CommandReader(self._obey)

    @property
    def refusing(self) -> bool:
        """Does it stream nothing because the mode cannot be honoured?"""
        return not self.mode.silent and self.mode != Mode.DEFAULT

    @property
    def streaming(self) -> bool:
        """Does it want bytes of the broker? The terminal must be open as well."""
        return not self.paused and self.mode == Mode.DEFAULT

    def receive(self, data: bytes | bytearray) -> None:
        """Take bytes from the guest."""
        self._commands.receive(data)

    def take_reply(self) -> bytes:
        """Take the words that go out before any more bytes; none while paused."""
        if self.paused:
            return b""
        reply, self._reply = self._reply, b""
        return reply

    def _obey(self, character: int) -> None:
        if character in HEX:
            self.mode = Mode(int(chr(character), 16) & 7)
            self.refusals += self.refusing
            return
        match chr(character):
            case "O":
                self.paused = False
            case "o":
                self.paused = True
            case "v":
                self._reply = _VERSION
            case "I":
                self._reply = f"\r\n________{self._hardware_id}________\r\n".encode("ascii")
            case "X":
                self._reply = NO_IMAGE
                self.refusals += 1
