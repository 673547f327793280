"""The load: connections that repeat a request and await each answer."""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.blocks import DrawClass
from drawwell.wire.frames import Draw, Granted, Hello, Welcome
from drawwell.wire.limits import HEADER_BYTES, PROTOCOL_VERSION

WAIT_S: Final = 30.0


@dataclass(frozen=True)
class Exchange:
    """A repeated request, with the length and start of its answer."""

    request: bytes
    answer_bytes: int
    answer_starts: bytes = b""


def draw_of(n_bytes: int, draw_class: DrawClass) -> Exchange:
    """Return a draw; requests are identical, since an answered id is free."""
    grant = Granted(bytes(n_bytes), 0, draw_class, request_id=1).encode()
    return Exchange(Draw(n_bytes, draw_class, request_id=1).encode(), len(grant), grant[: HEADER_BYTES + 4])


BARE_32: Final = Exchange(bytes(32), 32)


def connect(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    """Connect and perform the handshake."""
    plain = socket.create_connection(("127.0.0.1", port), WAIT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def connect_drawwell(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    """Connect, perform the handshake, and open a session."""
    link = connect(context, port)
    link.sendall(Hello((PROTOCOL_VERSION,), "bench").encode())
    header = receive(link, HEADER_BYTES)
    if header[0] != Welcome.TYPE:
        raise SystemExit(f"no welcome but a frame of type {header[0]:#04x}")
    receive(link, int.from_bytes(header[1:], "big"))
    return link


def receive(link: ssl.SSLSocket, n_bytes: int) -> bytes:
    """Receive exactly this many bytes."""
    data = b""
    while len(data) < n_bytes:
        more = link.recv(n_bytes - len(data))
        if not more:
            raise SystemExit("the server closed the connection")
        data += more
    return data


def exchange_once(link: ssl.SSLSocket, exchange: Exchange) -> bytes:
    """Send one request; return the complete answer, even a refusal."""
    link.sendall(exchange.request)
    if not exchange.answer_starts:
        return receive(link, exchange.answer_bytes)
    header = receive(link, HEADER_BYTES)
    return header + receive(link, int.from_bytes(header[1:], "big"))


def closed_loop(links: Sequence[ssl.SSLSocket], exchange: Exchange, seconds: float) -> list[float]:
    """Keep one request open on every link; return the latencies in seconds."""
    latencies: list[float] = []
    clock, wanted = time.perf_counter, exchange.answer_bytes
    asked, pending, by_fd = {}, {}, {}
    poller = select.epoll()
    for link in links:
        fd = link.fileno()
        link.setblocking(False)
        by_fd[fd], pending[fd] = link, b""
        poller.register(fd, select.EPOLLIN)
    end = clock() + seconds
    for fd, link in by_fd.items():
        asked[fd] = clock()
        link.send(exchange.request)
    while asked:
        for fd, _ in poller.poll(WAIT_S):
            link = by_fd[fd]
            try:
                answer = pending[fd] + link.recv(wanted)
            except ssl.SSLWantReadError:
                continue
            now = clock()
            if len(answer) < wanted:
                _must_begin(answer, exchange)
                pending[fd] = answer
                continue
            _must_begin(answer, exchange)
            pending[fd] = b""
            latencies.append(now - asked.pop(fd))
            if now < end:
                asked[fd] = clock()
                link.send(exchange.request)
    poller.close()
    for link in links:
        link.settimeout(WAIT_S)
    return latencies


def served(links: Sequence[ssl.SSLSocket], exchange: Exchange, seconds: float) -> list[int]:
    """Keep one request open on every link; return the numbers of answers.

    A link ends if it is closed or gets another answer.
    """
    counts, by_fd = [0] * len(links), {link.fileno(): number for number, link in enumerate(links)}
    pending = [b""] * len(links)
    poller = select.epoll()
    end = time.perf_counter() + seconds
    for fd, number in by_fd.items():
        links[number].setblocking(False)
        poller.register(fd, select.EPOLLIN)
        with contextlib.suppress(OSError):
            links[number].send(exchange.request)
    while (left := end - time.perf_counter()) > 0:
        for fd, _ in poller.poll(left):
            number = by_fd[fd]
            try:
                pending[number] += links[number].recv(exchange.answer_bytes)
                if len(pending[number]) >= exchange.answer_bytes:
                    _must_begin(pending[number], exchange)
                    counts[number] += 1
                    pending[number] = b""
                    links[number].send(exchange.request)
                elif not pending[number]:
                    poller.unregister(fd)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            except (OSError, SystemExit):
                poller.unregister(fd)
    poller.close()
    return counts


def _must_begin(answer: bytes, exchange: Exchange) -> None:
    """Exit if the answer is not the expected one but a refusal or EOF."""
    if not answer or not answer.startswith(exchange.answer_starts[: len(answer)]):
        raise SystemExit(f"unexpected answer: {answer!r}")
