"""Start-up conversations with devices, defined by `start` in [[source]]."""

import asyncio
import termios
from collections.abc import Sequence
from typing import Final

from drawwell.drivers.tty import Tty
from drawwell.errors import SourceUnavailable
from drawwell.units import parse_duration

_ANSWER_S: Final = 2.0
"""Time limit for an expected byte."""
_HINT: Final = "Compare the steps of start with the device's documentation."


async def converse(path: str, steps: Sequence[str]) -> Tty:
    """Open a terminal, carry out `steps`, and return the terminal.

    Raises:
        SourceUnavailable: the terminal cannot be opened, or does not answer as expected.
        SourceRejected: the path is not a terminal.
    """
    tty = Tty.open(path)
    try:
        for step in steps:
            verb, _, value = step.partition(" ")
            if verb == "knock":
                tty.close()
                _knock(path, int(value))
                tty = Tty.open(path)
            else:
                await _step(tty, verb, value)
    except BaseException:
        tty.close()
        raise
    return tty


def _knock(path: str, baud: int) -> None:
    """Open and close the terminal at a speed (CDC PSTN 1.2, 6.3.10)."""
    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise SourceUnavailable(f"terminals do not support {baud} baud", hint=_HINT)
    tty = Tty.open(path)
    try:
        tty.set_speed(speed)
    finally:
        tty.close()


async def _step(tty: Tty, verb: str, value: str) -> None:
    if verb == "wait":
        await asyncio.sleep(parse_duration(value))
    elif verb == "send":
        await tty.write(bytes.fromhex(value))
    elif verb == "skip":
        await _take(tty, int(value))
    else:
        expected = bytes.fromhex(value)
        if (answer := await _take(tty, len(expected))) != expected:
            raise SourceUnavailable(
                f"{tty.path} answered {len(answer)} bytes, but not the {len(expected)} expected", hint=_HINT
            )


async def _take(tty: Tty, n_bytes: int) -> bytes:
    data = b""
    while len(data) < n_bytes:
        piece = await tty.read(n_bytes - len(data), _ANSWER_S)
        if not piece:
            raise SourceUnavailable(
                f"{tty.path} sent {len(data)} of {n_bytes} bytes within {_ANSWER_S:g} s", hint=_HINT
            )
        data += piece
    return data
