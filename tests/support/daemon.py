"""``drawwell`` as a process of its own, and a simulated stick beside it: what end-to-end tests are made of."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import DEADLINE_S, wait_until

PROGRAM = (sys.executable, "-m", "drawwell")


def command(
    *words: str,
    config: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    program: Sequence[str] = PROGRAM,
) -> subprocess.CompletedProcess[str]:
    """Run one command line to its end; nothing of the caller's own configuration reaches it."""
    return subprocess.run(
        [*program, *words],
        capture_output=True,
        text=True,
        input=text,
        check=False,
        timeout=DEADLINE_S,
        env=environment(config, env),
    )


def environment(config: Path | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: that of the tests, and the configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRAWWELL_")}
    kept["DRAWWELL_LOOP"] = "asyncio"
    return kept | ({"DRAWWELL_CONFIG": str(config)} if config else {}) | dict(more or {})


class Daemon:
    """A daemon from ``with`` to its end; a SIGKILL ends it there when nothing did before.

    Args:
        words: The command line.
        config: Its configuration.
        log: Where its words go.
        env: More of its environment.
        program: What is started with those words; for a program that starts ours.
    """

    def __init__(
        self,
        *words: str,
        config: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._words = words
        self._env = {"PYTHONUNBUFFERED": "1", **(env or {})}
        self._program = program
        self._pass_fds = pass_fds
        self._config = config
        self._log = log

    def __enter__(self) -> Self:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self._config, self._env),
                pass_fds=self._pass_fds,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, however it is."""
        self.kill()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self._process.poll() is None

    @property
    def words(self) -> str:
        """Everything that it said."""
        return self._log.read_text()

    def until_it_says(self, words: str) -> None:
        """Wait for it to say that.

        Raises:
            AssertionError: it did not, or ended.
        """
        wait_until(lambda: words in self.words or not self.running, f"it says {words!r}")
        if words not in self.words:
            raise AssertionError(f"it ended: {self.words}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait(DEADLINE_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit code."""
        self.send(number)
        return self.ended()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()


class StickThread:
    """A simulated stick in a thread of its own, for tests that have no event loop.

    Args:
        link: Its path.
        options: As `PtyDevice` takes them.
    """

    def __init__(self, link: Path, **options: Any) -> None:
        self._link = link
        self._options = options
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))

    def __enter__(self) -> Self:
        """Plug it in."""
        self._thread.start()
        self._ready.wait(DEADLINE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Pull it for good."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def do(self, verb: str, *arguments: Any) -> None:
        """Call a method of the `PtyDevice`: ``unplug``, ``replug``, ``set_fault``."""
        done = threading.Event()

        def call() -> None:
            getattr(self.device, verb)(*arguments)
            done.set()

        self._loop.call_soon_threadsafe(call)
        done.wait(DEADLINE_S)

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with PtyDevice(self._link, **self._options) as self.device:
            self._ready.set()
            await self._stop.wait()


def hinted(run: "subprocess.CompletedProcess[str]") -> Sequence[str]:
    """The hints that a command printed."""
    return [line for line in run.stderr.splitlines() if line.startswith("drawwell: hint: ")]
