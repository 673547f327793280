"""Programs of the software that runs guests: lists of words, never a shell, and limits of time and size."""

import os
import selectors
import subprocess
import time
from typing import IO, Final, cast

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import GuestCommandResult

ANSWER_S: Final = 60.0
"""A loaded host takes its time to say what runs on it."""
MISSING: Final = 127
"""The status of a program that is not installed, as a shell has it."""
MOST_BYTES: Final = 32 << 20
"""What a program may say: behind lxc-attach and docker exec it is the guest that speaks, and it may not stop."""
_PIECE_BYTES: Final = 65_536
_PIPE_BYTES: Final = 4096
"""PIPE_BUF: so much is written at once to a pipe that is ready, without waiting (pipe(7))."""


def run(
    argv: list[str],
    *,
    stdin: bytes = b"",
    timeout_s: float = ANSWER_S,
    more_env: dict[str, str] | None = None,
) -> GuestCommandResult:
    """Run a program to its end; one that is not installed is an outcome as well (`MISSING`).

    Raises:
        GuestUnavailable: it did not end in time, or said more than `MOST_BYTES`; it was killed then.
    """
    env = os.environ | {"LC_ALL": "C.UTF-8"} | (more_env or {})
    pipe = subprocess.PIPE
    deadline = time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    except FileNotFoundError:
        return GuestCommandResult(MISSING, b"", f"{argv[0]} is not installed")
    with process:
        try:
            output, errors = _converse(process, stdin, deadline)
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise GuestUnavailable(
                f"{argv[0]} did not end within {timeout_s:g} s",
                hint="See whether the guest or its host hangs.",
            ) from None
        except OverflowError:
            raise GuestUnavailable(
                f"{argv[0]} says more than {MOST_BYTES} bytes",
                hint="Somebody in the guest answers in the place of its shell: look there.",
            ) from None
        finally:
            process.kill()  # nothing, to one that has ended
    return GuestCommandResult(status, output, errors.decode("utf-8", "replace").strip())


def _converse(process: subprocess.Popen[bytes], stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Hand in what it is to read, and take what it says until it says no more; raises TimeoutError, OverflowError."""
    streams = [each for each in (process.stdout, process.stderr) if each]
    said: dict[object, bytearray] = {each: bytearray() for each in streams}
    rest = memoryview(stdin)
    with selectors.DefaultSelector() as ready:
        for each in streams:
            ready.register(each, selectors.EVENT_READ)
        if process.stdin:
            ready.register(process.stdin, selectors.EVENT_WRITE)
        while ready.get_map():
            if (left_s := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            for key, _ in ready.select(left_s):
                stream = cast("IO[bytes]", key.fileobj)
                if stream is process.stdin:
                    rest = _hand_in(stream, rest)
                    over = not rest
                else:
                    over = not _take(stream, said[stream])
                if over:
                    ready.unregister(stream)
                    stream.close()
    output, errors = said.values()
    return bytes(output), bytes(errors)


def _hand_in(stream: IO[bytes], rest: memoryview) -> memoryview:
    """Write a piece; return what is left, nothing when nobody reads."""
    try:
        return rest[os.write(stream.fileno(), rest[:_PIPE_BYTES]) :]
    except BrokenPipeError:
        return rest[:0]


def _take(stream: IO[bytes], said: bytearray) -> bool:
    """Read a piece; False at the end."""
    piece = os.read(stream.fileno(), _PIECE_BYTES)
    said += piece
    if len(said) > MOST_BYTES:
        raise OverflowError
    return bool(piece)


def last_line(outcome: GuestCommandResult) -> str:
    """What a program said at the end, for a message: a guest's words may be among them, and move no terminal."""
    lines = outcome.errors.splitlines() or [f"it ended with status {outcome.status}"]
    return "".join(each if each.isprintable() else "?" for each in lines[-1][:200])
