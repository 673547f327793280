"""A blocking link to a broker on this machine.

It is for programs that send one request at a time. It uses the same session as `UnixLink`, but
not asyncio, because importing asyncio takes longer than the draw.
"""

import socket
import struct
import time
from contextlib import suppress
from typing import Any, Final, Unpack

from drawwell import __version__
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import LinkUnavailable, LocalProtocolError, RemoteProtocolError
from drawwell.links import requests
from drawwell.links.socket_file import check_place, may_not_open
from drawwell.links.suspicion import Suspicion
from drawwell.wire.frames import Bye, Frame, Refusal, Result
from drawwell.wire.refusals import to_error
from drawwell.wire.session import ClientSession

_READ_BYTES: Final = 131_072
_LEAST_WAIT_S: Final = 0.001
"""The shortest timeout, because a socket with a timeout of 0 does not wait."""


class BlockingLink:
    """A session over a Unix socket, opened by the first request.

    After `pause`, or if the connection is lost, the next request opens a new session.

    Args:
        path: The broker's socket.
        open_deadline_s: The longest wait for the connection and the welcome.
        answer_deadline_s: The longest wait for an answer, in addition to a draw's patience.
    """

    def __init__(
        self,
        path: str,
        *,
        open_deadline_s: float = requests.OPEN_DEADLINE_S,
        answer_deadline_s: float = requests.ANSWER_DEADLINE_S,
    ) -> None:
        self.name = path
        self._open_deadline_s = open_deadline_s
        self._answer_deadline_s = answer_deadline_s
        self._socket: socket.socket | None = None
        self._session = ClientSession()
        self._suspicion = Suspicion()

    def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw once, without a retry; same errors as `ports.Upstream.draw`."""
        request = requests.draw_request(n_bytes, draw_class, **options)
        sock = self._opened()
        grant: Grant = self._ask(sock, self._session.draw(request)[1], request.patience_s)
        self._suspicion.look(grant)
        return grant

    def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call a control verb; same errors as `draw`."""
        requests.check_arguments(verb, args)
        sock = self._opened()
        answer: Result = self._ask(sock, self._session.call(verb, args)[1])
        return answer.document

    def open(self) -> None:
        """Connect if necessary, and wait for the welcome; same errors as `draw`."""
        self._opened()

    def pause(self, seconds: float) -> None:
        """Close the session, then wait."""
        self.close()
        time.sleep(seconds)

    def close(self) -> None:
        """End the session; never raises."""
        if self._socket is not None:
            with suppress(OSError, LocalProtocolError):  # the broker might have closed it
                self._socket.send(self._session.bye())
            self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is not None:
            return self._socket
        deadline = time.monotonic() + self._open_deadline_s
        too_late = requests.unreachable(self.name, f"no welcome within {self._open_deadline_s:g} s")
        self._session = ClientSession()
        try:
            self._socket = sock = self._connect()
        except BlockingIOError:  # the backlog stayed full
            raise too_late from None
        except OSError as error:
            raise requests.unreachable(self.name, requests.reason(error)) from None
        self._exchange(sock, self._session.hello(f"drawwell {__version__}"), deadline, too_late)
        return sock

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            check_place(self.name)
            # limits how long connect(2) waits if the backlog is full (socket(7))
            patience = struct.pack("@ll", int(self._open_deadline_s), int(self._open_deadline_s % 1 * 1e6))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            sock.connect(self.name)
        except PermissionError as error:
            sock.close()
            raise may_not_open(self.name, error) from None
        except BaseException:
            sock.close()
            raise
        return sock

    def _ask(self, sock: socket.socket, request: bytes, patience_s: float = 0.0) -> Any:
        """Send a request; return its answer, checked by the session."""
        within_s = self._answer_deadline_s + patience_s
        deadline = time.monotonic() + within_s
        return self._exchange(sock, request, deadline, requests.unanswered(self.name, within_s))

    def _exchange(
        self, sock: socket.socket, data: bytes, deadline: float, too_late: LinkUnavailable
    ) -> Frame:
        """Send a frame; return its answer, or raise its refusal.

        After any other error the session is closed.
        """
        try:
            answer = self._answer(sock, data, deadline)
        except TimeoutError:
            self.close()
            raise too_late from None
        except OSError as error:
            self.close()
            raise requests.broken(self.name, error) from None
        except RemoteProtocolError as error:
            self.close()
            raise requests.broke_protocol(self.name, error) from None
        except BaseException:
            self.close()
            raise
        if isinstance(answer, Refusal):
            raise to_error(answer)
        if isinstance(answer, Bye):
            self.close()
            raise requests.closed_session(self.name, answer.reason)
        return answer

    def _answer(self, sock: socket.socket, data: bytes, deadline: float) -> Frame:
        def wait() -> None:
            sock.settimeout(max(_LEAST_WAIT_S, deadline - time.monotonic()))

        wait()
        sock.sendall(data)
        while (answer := self._session.next_event()) is None:
            wait()
            received = sock.recv(_READ_BYTES)
            if not received:
                raise ConnectionResetError
            self._session.receive_data(received)
        return answer
