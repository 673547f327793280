"""The drawwell program and a simulated stick, for end-to-end tests."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import DEADLINE_S, wait_until

PROGRAM = (sys.executable, "-m", "drawwell")


def command(
    *arguments: str,
    config: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    program: Sequence[str] = PROGRAM,
) -> subprocess.CompletedProcess[str]:
    """Run a command to completion, without the caller's own configuration."""
    return subprocess.run(
        [*program, *arguments],
        capture_output=True,
        text=True,
        input=text,
        check=False,
        timeout=DEADLINE_S,
        env=environment(config, env),
    )


def environment(config: Path | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the tests' environment with this configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DRAWWELL_")}
    kept["DRAWWELL_LOOP"] = "asyncio"
    return kept | ({"DRAWWELL_CONFIG": str(config)} if config else {}) | dict(more or {})


class Daemon:
    """A daemon that runs during a `with` block and is killed at its end.

    Args:
        arguments: Its arguments.
        config: Its configuration.
        log: File for its output.
        env: Additional environment variables.
        program: The command before the arguments, such as a program that starts drawwell.
    """

    def __init__(
        self,
        *arguments: str,
        config: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._arguments = arguments
        self._env = {"PYTHONUNBUFFERED": "1", **(env or {})}
        self._program = program
        self._pass_fds = pass_fds
        self._config = config
        self._log = log

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def start(self) -> None:
        """Start the daemon, for the first time or again."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self._config, self._env),
                pass_fds=self._pass_fds,
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the daemon, whatever its state."""
        self.kill()

    @property
    def pid(self) -> int:
        """The daemon's process ID."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the daemon is still running."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """The daemon's whole output."""
        return self._log.read_text()

    def wait_for_text(self, text: str) -> None:
        """Wait until the daemon has printed `text`.

        Raises:
            AssertionError: the text did not appear in time, or the daemon ended.
        """
        wait_until(lambda: text in self.output or not self.running, f"it prints {text!r}")
        if text not in self.output:
            raise AssertionError(f"it ended: {self.output}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the daemon."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for the daemon to end; return its exit code."""
        return self._process.wait(DEADLINE_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Terminate the daemon; return its exit code."""
        self.send(number)
        return self.ended()

    def kill(self) -> None:
        """Kill the daemon without warning, like a power cut."""
        self._process.kill()
        self._process.wait()


class StickThread:
    """A simulated stick in a thread, for tests without an event loop.

    Args:
        link: Path of the simulated device.
        options: Arguments of `PtyDevice`.
    """

    def __init__(self, link: Path, **options: Any) -> None:
        self._link = link
        self._options = options
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))

    def __enter__(self) -> Self:
        """Plug in the stick."""
        self._thread.start()
        self._ready.wait(DEADLINE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unplug the stick permanently."""
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


@contextmanager
def stick_for_broker(folder: Path) -> Iterator[Path]:
    """Plug in a stick and yield a broker's configuration; others may enter."""
    folder.chmod(0o711)
    config = folder / "drawwell.toml"
    config.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "off"\n'
    )
    with StickThread(folder / "stick", rate=200_000.0):
        yield config


@contextmanager
def healthy_broker(config: Path, log: str = "log") -> Iterator[Daemon]:
    """Run a broker until the block ends, which begins when it is healthy."""
    with Daemon("run", config=config, log=config.parent / log) as running:
        running.wait_for_text("healthy")  # wording: the helper's name
        yield running


def hinted(run: "subprocess.CompletedProcess[str]") -> Sequence[str]:
    """Return the hints that a command printed."""
    return [line for line in run.stderr.splitlines() if line.startswith("drawwell: hint: ")]
