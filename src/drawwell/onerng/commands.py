"""The commands and modes of a OneRNG.

Source: OneRNG/firmware 81d70bf (Version 3), cdc_app.c, pool_cmd_thread. A command is ``cmd``
and one case-sensitive character, without a terminator. The device never acknowledges a
command, and obeys commands even while paused.
"""

from collections.abc import Callable
from enum import Enum, IntFlag
from typing import Final

HEX: Final = b"0123456789abcdefABCDEF"
_TOKEN_DIGITS: Final = 32


def spell(character: str) -> bytes:
    """Return the bytes of the command ``cmd<character>``.

    The leading line feed resynchronises the parser: the firmware does not rescan a byte that
    broke a ``cmd``, so ``ccmd0`` would be lost. It also ends the token of a ``cmdS``.
    """
    return f"\ncmd{character}\n".encode("ascii")


class Command(Enum):
    """The commands that drawwell sends, with their bytes."""

    RUN = spell("O")
    """Send noise while the host asserts DTR."""
    PAUSE = spell("o")
    """Stop sending noise; noise is still added to the pool."""
    FLUSH = spell("w")
    """Discard the pool's contents."""
    SILENT = spell("4")
    """Select a mode without a noise source, so only the reply is sent."""
    VERSION = spell("v")
    """Reply with the running firmware's version."""
    IDENTITY = spell("I")
    """Reply with the 128-bit hardware ID (version 3 and later)."""
    DUMP = spell("X")
    """Reply with the firmware image."""


class Mode(IntFlag):
    """A noise mode, the digit in ``cmd0`` to ``cmd7``; 8 to f are aliases."""

    DEFAULT = 0
    RAW = 1
    """The CRC-16 whitener is off."""
    RF = 2
    """The radio receiver is a source."""
    NO_AVALANCHE = 4
    """The avalanche diode is not a source."""

    @property
    def command(self) -> bytes:
        """The bytes of this mode's command."""
        return spell(f"{self.value:x}")

    @property
    def avalanche(self) -> bool:
        """Whether the avalanche diode is a source."""
        return Mode.NO_AVALANCHE not in self

    @property
    def silent(self) -> bool:
        """Whether this mode has no source."""
        return not self.avalanche and Mode.RF not in self

    @property
    def label(self) -> str:
        """A description of the mode, for instance ``avalanche, raw``."""
        if self.silent:
            return "no noise"
        sources = "+".join(
            name for name, on in (("avalanche", self.avalanche), ("RF", Mode.RF in self)) if on
        )
        return f"{sources}, {'raw' if Mode.RAW in self else 'whitened'}"

    def __str__(self) -> str:
        """Format the mode for the configuration, for instance ``cmd1``."""
        return f"cmd{self.value:x}"


MODES: Final = tuple(str(Mode(mask)) for mask in range(8))


def parse_mode(text: str) -> Mode:
    """Parse ``cmd0`` to ``cmd7``.

    Raises:
        ValueError: any other text.
    """
    if text not in MODES:
        raise ValueError(f"{text!r} is not a mode; the modes are {', '.join(MODES)}")
    return Mode(int(text[3:]))


class CommandReader:
    """The firmware's parser, which never rescans a byte.

    Args:
        obey: Called with each command's character; the token after ``cmdS`` is skipped.
        tokens: Whether this firmware supports ``cmdS`` (version 3 and later).
    """

    def __init__(self, obey: Callable[[int], None], *, tokens: bool = True) -> None:
        self._obey = obey
        self._tokens = tokens
        self._matched = 0
        self._token_digits = 0

    def receive(self, data: bytes | bytearray) -> None:
        """Process bytes from the host."""
        for byte in data:
            self._step(byte)

    def _step(self, byte: int) -> None:
        if self._token_digits:
            self._token_digits = self._token_digits - 1 if byte in HEX else 0
        elif self._matched == 3:
            self._matched = 0
            self._token_digits = _TOKEN_DIGITS if self._tokens and byte == ord("S") else 0
            self._obey(byte)
        else:
            self._matched = self._matched + 1 if byte == b"cmd"[self._matched] else 0
