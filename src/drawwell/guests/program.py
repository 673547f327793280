"""Runs hypervisor programs without a shell; limits time and output."""

import os
import selectors
import subprocess
import time
from typing import IO, Final, cast

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import GuestCommandResult

ANSWER_S: Final = 60.0
"""A loaded host can take this long to list its guests."""
MISSING: Final = 127
"""The exit status for a program that is not installed, as in a shell."""
MOST_BYTES: Final = 32 << 20
"""Limit of a program's output, because a guest could send endless output."""
_PIECE_BYTES: Final = 65_536
_PIPE_BYTES: Final = 4096
"""PIPE_BUF: a writable pipe accepts this many bytes without blocking (pipe(7))."""


def run(
    argv: list[str],
    *,
    stdin: bytes = b"",
    timeout_s: float = ANSWER_S,
    more_env: dict[str, str] | None = None,
) -> GuestCommandResult:
    """Run a program; the status is `MISSING` if it is not installed.

    Raises:
        GuestUnavailable: the program timed out or wrote more than `MOST_BYTES`, and was
            killed.
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
                f"{argv[0]} did not finish within {timeout_s:g} s",
                hint="Check whether the guest or the host hangs.",
            ) from None
        except OverflowError:
            raise GuestUnavailable(
                f"{argv[0]} wrote more than {MOST_BYTES} bytes",
                hint="Another program in the guest answers instead of its shell. Check the guest.",
            ) from None
        finally:
            process.kill()  # no effect on a process that has exited
    return GuestCommandResult(status, output, errors.decode("utf-8", "replace").strip())


def _converse(process: subprocess.Popen[bytes], stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Write stdin and collect output; raise TimeoutError or OverflowError."""
    streams = [each for each in (process.stdout, process.stderr) if each]
    collected: dict[object, bytearray] = {each: bytearray() for each in streams}
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
                    done = not rest
                else:
                    done = not _take(stream, collected[stream])
                if done:
                    ready.unregister(stream)
                    stream.close()
    output, errors = collected.values()
    return bytes(output), bytes(errors)


def _hand_in(stream: IO[bytes], rest: memoryview) -> memoryview:
    """Write a piece; return the rest, which is empty if there is no reader."""
    try:
        return rest[os.write(stream.fileno(), rest[:_PIPE_BYTES]) :]
    except BrokenPipeError:
        return rest[:0]


def _take(stream: IO[bytes], collected: bytearray) -> bool:
    """Read a piece; return False at EOF."""
    piece = os.read(stream.fileno(), _PIECE_BYTES)
    collected += piece
    if len(collected) > MOST_BYTES:
        raise OverflowError
    return bool(piece)


def last_line(outcome: GuestCommandResult) -> str:
    """Return stderr's last line, made printable: the guest may have sent it."""
    lines = outcome.errors.splitlines() or [f"the program exited with status {outcome.status}"]
    return "".join(each if each.isprintable() else "?" for each in lines[-1][:200])
