"""What a OneRNG is told: commands and modes.

Source: OneRNG/firmware 81d70bf (Version 3), cdc_app.c, pool_cmd_thread. A command is ``cmd`` and one character,
without terminator, case-sensitive, never acknowledged, and obeyed while paused too.
"""

from collections.abc import Callable
from enum import Enum, IntFlag
from typing import Final

HEX: Final = b"0123456789abcdefABCDEF"
_TOKEN_DIGITS: Final = 32


def spell(character: str) -> bytes:
    """Return the bytes of the command ``cmd<character>``.

    The leading line feed resynchronises: the firmware does not look again at a byte that broke a ``cmd``, so
    that ``ccmd0`` would be lost. It also ends the token of an unfinished ``cmdS``.
    """
    return f"\ncmd{character}\n".encode("ascii")


class Command(Enum):
    """The commands that drawwell sends, each with its bytes."""

    RUN = spell("O")
    """Stream, while the host holds DTR up."""
    PAUSE = spell("o")
    """Stop streaming; noise goes on to fill and to stir the pool."""
    FLUSH = spell("w")
    """Forget what the pool holds."""
    SILENT = spell("4")
    """Mode without a noise source, so that a reply comes alone."""
    VERSION = spell("v")
    """Answer with the firmware's version, once running."""
    IDENTITY = spell("I")
    """Answer with the 128-bit hardware ID (version 3 and later)."""
    DUMP = spell("X")
    """Answer with the firmware image."""


class Mode(IntFlag):
    """A noise mode: the hexadecimal digit of ``cmd0`` to ``cmd7`` (``cmd8`` to ``cmdf`` are the same again)."""

    DEFAULT = 0
    RAW = 1
    """The CRC-16 whitener is off."""
    RF = 2
    """The radio receiver is a source."""
    NO_AVALANCHE = 4
    """The avalanche diode is not a source."""

    @property
    def command(self) -> bytes:
        """The bytes that choose this mode."""
        return spell(f"{self.value:x}")

    @property
    def avalanche(self) -> bool:
        """Is the avalanche diode a source?"""
        return Mode.NO_AVALANCHE not in self

    @property
    def silent(self) -> bool:
        """Has this mode no source at all?"""
        return not self.avalanche and Mode.RF not in self

    @property
    def words(self) -> str:
        """The mode as people read it, for instance ``avalanche, raw``."""
        if self.silent:
            return "no noise"
        sources = "+".join(
            name for name, on in (("avalanche", self.avalanche), ("RF", Mode.RF in self)) if on
        )
        return f"{sources}, {'raw' if Mode.RAW in self else 'whitened'}"

    def __str__(self) -> str:
        """Write it as the configuration takes it, for instance ``cmd1``."""
        return f"cmd{self.value:x}"


MODES: Final = tuple(str(Mode(mask)) for mask in range(8))


def parse_mode(text: str) -> Mode:
    """Read ``cmd0`` to ``cmd7``.

    Raises:
        ValueError: anything else.
    """
    if text not in MODES:
        raise ValueError(f"{text!r} is not a mode; the modes are {', '.join(MODES)}")
    return Mode(int(text[3:]))


class CommandReader:
    """The firmware's parser, byte by byte: a byte that breaks a ``cmd`` off is not looked at again.

    Args:
        obey: Called with each command's character; the token that follows ``cmdS`` is passed over.
        tokens: Does this firmware take ``cmdS`` (version 3 and later)?
    """

    def __init__(self, obey: Callable[[int], None], *, tokens: bool = True) -> None:
        self._obey = obey
        self._tokens = tokens
        self._matched = 0
        self._token_digits = 0

    def receive(self, data: bytes | bytearray) -> None:
        """Take bytes from the host."""
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
