"""The virtual OneRNG: a device without noise, pool or firmware of its own.

Its bytes are drawn from a broker on demand. It parses commands as a real device does (byte by
byte, without acknowledgement, paused at power-on), and carries out or refuses them:

    cmdO, cmdo    stream, stop streaming
    cmd0          the default: conditioned bytes
    cmd4, cmd5    no noise: silent
    cmd1 2 3 6 7  raw or radio noise, which the device lacks: silent until the mode changes
    cmdw          nothing to flush
    cmdv, cmdI    version 3; an ID derived from the guest's name
    cmdX          refused with one line of text: there is no image

A refusal is a visible silence (`refusing`), never bytes of another kind.
"""

from typing import Final

from drawwell.onerng.commands import HEX, CommandReader, Mode

NO_IMAGE: Final = b"\r\nThis is a virtual OneRNG: it has no firmware to verify\r\n"
_VERSION: Final = b"\r\nVersion 3\r\n"


class VirtualOneRng:
    """State of the device: the guest's mode and pending reply.

    Args:
        hardware_id: 32 hexadecimal digits, the reply to ``cmdI``.
    """

    def __init__(self, hardware_id: str) -> None:
        self.paused = True
        self.mode = Mode.DEFAULT
        self.refusals = 0
        """Number of refused commands."""
        self._hardware_id = hardware_id
        self._reply = b""
        self._commands = CommandReader(self._obey)

    @property
    def refusing(self) -> bool:
        """Whether the device is silent because it lacks the requested mode."""
        return not self.mode.silent and self.mode != Mode.DEFAULT

    @property
    def streaming(self) -> bool:
        """Whether the device needs bytes from the broker while its tty is open."""
        return not self.paused and self.mode == Mode.DEFAULT

    def receive(self, data: bytes | bytearray) -> None:
        """Process bytes from the guest."""
        self._commands.receive(data)

    def take_reply(self) -> bytes:
        """Take the text to send before any other bytes; empty while paused."""
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
