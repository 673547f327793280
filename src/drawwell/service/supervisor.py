"""A minimal supervisor: restarts the broker and stores its descriptors.

It is for machines without a service manager. It implements the manager's side of
sd_pid_notify_with_fds(3) (FDSTORE, FDSTOREREMOVE) and sd_listen_fds(3) for one child, and
nothing else. It has no secrets and no changing configuration, so it never needs a restart.
"""

import contextlib
import fcntl
import logging
import os
import resource
import select
import signal
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Final

MAX_KEPT: Final = 16_384
"""Limit of stored file descriptors; any more are closed."""
_AT_ONCE: Final = 253
"""Maximum number of file descriptors in one message (unix(7))."""
_MESSAGE_BYTES: Final = 4096
_FIRST: Final = 3
"""SD_LISTEN_FDS_START, sd-daemon.h."""
_LEAST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 10.0
_LIVED_S: Final = 10.0
"""After running at least this long, a child is restarted with the shortest delay."""
_HOPELESS: Final = frozenset({64, 70, 77, 78})
"""Exit codes that a restart cannot fix: usage, self-test, permission, configuration."""
_UCRED: Final = struct.Struct("3i")
_PASS_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STOP: Final = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("drawwell.keeper")


class FdStore:
    """Stored descriptors with names; each is stored until its peer closes."""

    def __init__(self) -> None:
        self._fds: dict[int, str] = {}
        self._poll = select.epoll()

    def __len__(self) -> int:
        """Return the number of stored descriptors."""
        return len(self._fds)

    def close(self) -> None:
        """Close all stored descriptors."""
        for fd in tuple(self._fds):
            self._drop(fd)
        self._poll.close()

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when `sweep` has work to do."""
        return self._poll.fileno()

    def message(self, text: bytes, fds: Sequence[int]) -> None:
        """Process a message; the store then owns the message's descriptors."""
        fields = dict(line.partition("=")[::2] for line in text.decode("ascii", "replace").splitlines())
        name = fields.get("FDNAME", "stored")
        if fields.get("FDSTOREREMOVE") == "1":
            for fd in [fd for fd, known in self._fds.items() if known == name]:
                self._drop(fd)
        for fd in fds:
            if fields.get("FDSTORE") == "1" and ":" not in name and len(self._fds) < MAX_KEPT:
                self._keep(fd, name)
            else:
                os.close(fd)

    def sweep(self) -> None:
        """Close the descriptors whose peers have closed."""
        for fd, _events in self._poll.poll(0):
            self._drop(fd)

    def hand_on(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Pass the descriptors to a child before exec; return its environment."""
        above = _FIRST + len(self._fds)
        for place, fd in enumerate(
            [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in self._fds], _FIRST
        ):
            os.dup2(fd, place, inheritable=True)
        names = {"LISTEN_FDS": str(len(self._fds)), "LISTEN_FDNAMES": ":".join(self._fds.values())}
        return {**environ, **names, "LISTEN_PID": str(os.getpid())} if self._fds else dict(environ)

    def _keep(self, fd: int, name: str) -> None:
        new = os.fstat(fd)
        for known, known_name in self._fds.items():
            if known_name == name and os.path.samestat(os.fstat(known), new):
                os.close(fd)
                return
        self._fds[fd] = name
        with contextlib.suppress(PermissionError):  # a file has no peer
            self._poll.register(fd, 0)

    def _drop(self, fd: int) -> None:
        if self._fds.pop(fd, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                self._poll.unregister(fd)
            os.close(fd)


class Supervisor:
    """Runs `command` until stopped, and restarts it when it exits.

    Args:
        command: The program and its arguments.
        environ: The program's environment.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environ = dict(environ)
        self._kept = FdStore()
        self._child = 0
        self._stopping = False

    def run(self) -> int:
        """Run the child, forward signals to it, and return its last exit code."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as self._messages:
            self._messages.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._messages.bind("")  # an unused abstract address (unix(7), autobind)
            address = self._messages.getsockname()
            self._environ["NOTIFY_SOCKET"] = f"@{address[1:].decode()}"
            signals, wakes = socket.socketpair()
            with signals, wakes:
                wakes.setblocking(False)
                signals.setblocking(False)
                signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
                for number in (*_PASS_ON, signal.SIGCHLD):
                    signal.signal(number, self._pass_on)
                return self._keep_running(signals)

    def _keep_running(self, signals: socket.socket) -> int:
        delay_s, first = _LEAST_DELAY_S, True
        while True:
            began = time.monotonic()
            self._start()
            status = self._until_ended(signals)
            self._child = 0
            if self._stopping or (first and status in _HOPELESS):
                self._kept.close()
                return status
            lived = time.monotonic() - began >= _LIVED_S
            delay_s = _LEAST_DELAY_S if lived else min(2 * delay_s, _LONGEST_DELAY_S)
            log.warning("restarting the child (exit code %s) with %d stored sockets", status, len(self._kept))
            first = False
            self._attend(signals, delay_s)
            if self._stopping:
                return 0

    def _start(self) -> None:
        """Start the child; forward signals that arrive in the meantime."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASS_ON)
        self._child = os.fork()
        if self._child:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if self._stopping:
                os.kill(self._child, signal.SIGTERM)
            return
        try:
            for number in (*_PASS_ON, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvpe(  # noqa: S606 - our own program, without a shell
                self._command[0], self._command, self._kept.hand_on(self._environ)
            )
        except OSError as error:
            log.error("cannot start %s: %s", self._command[0], error.strerror)
        finally:
            os._exit(69)

    def _until_ended(self, signals: socket.socket) -> int:
        """Serve the child until it exits; return its exit code, or 128 + signal."""
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)  # any child: process 1 inherits others
            if ended == self._child:
                self._read_messages()  # its last messages
                return (
                    os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
                )
            if not ended:
                self._attend(signals, None)

    def _attend(self, signals: socket.socket, at_most_s: float | None) -> None:
        """Wait for a message, a signal, a hang-up or the timeout."""
        ready, _, _ = select.select(
            [signals.fileno(), self._messages.fileno(), self._kept.fileno()], [], [], at_most_s
        )
        if signals.fileno() in ready:
            signals.recv(_MESSAGE_BYTES)
        if self._messages.fileno() in ready:
            self._read_messages()
        self._kept.sweep()

    def _read_messages(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                text, control, _, _ = self._messages.recvmsg(
                    _MESSAGE_BYTES, socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(4 * _AT_ONCE)
                )
                uid, fds = _read_control(control)
                if uid in {0, os.geteuid()}:
                    self._kept.message(text, fds)
                else:
                    for fd in fds:
                        os.close(fd)

    def _pass_on(self, number: int, _frame: object) -> None:
        if number in _STOP:
            self._stopping = True
        if number != signal.SIGCHLD and self._child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, number)


def _read_control(control: Sequence[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    """Return the sender's user ID (from the kernel) and the descriptors."""
    uid, fds = -1, []
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            uid = _UCRED.unpack(data)[1]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += [number for (number,) in struct.iter_unpack("i", data[: len(data) // 4 * 4])]
    for fd in fds:
        os.set_inheritable(fd, False)
    return uid, fds
