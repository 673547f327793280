"""Measure what consumers lose while others attack the TLS door.

Ten consumers make 32-byte draws, first without an attack and then during each attack. The last
three attacks come from a consumer with many sessions: receipts, a control verb, TLS key
updates. On a busy machine, run this as root with "chrt -f 5", so that broker and load have
real-time priority.

The attackers use another loopback address. Their process is on the load's core and runs only
when the load does not, so that the benchmark measures the door and not competition for the
load's core. An attack is as strong as this process can make it.
"""

import contextlib
import itertools
import multiprocessing
import os
import select
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from draws import figures
from rig.load import closed_loop, connect_drawwell, draw_of
from rig.processes import CLIENT_CORE, Server, cpu_s, raise_file_limit, stay_on
from rig.report import Report, Samples, arguments, progress
from rig.site import Site

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # TLS records that ssl cannot send
from drawwell.entropy.blocks import DrawClass
from drawwell.wire.frames import Call, Draw, Granted, Refusal, Result
from drawwell.wire.parser import FrameParser
from support.key_updates import client_secret, key_updates

CONSUMERS: Final = 10
ATTACKER: Final = "127.0.0.66"
CROWD: Final = 1000
SAVED_S: Final = 6.0
"""Time until the saved-up handshake budget is used."""
GROUP: Final = f"32-byte draws, class drbg, {CONSUMERS} consumers"
FIGURES: Final = ("draws/s", "p99 ms")
SESSIONS: Final = 60
"""Sessions of the attacking consumer; a door admits 64."""
OPEN_REQUESTS: Final = 32
ANSWERS: Final = {kind.TYPE: kind for kind in (Granted, Result, Refusal)}
KEY_UPDATES: Final = 4000
"""Key updates per session; in total more than the broker can handle during a measurement."""
Attack = Callable[[Site, int], Callable[[], None]]
"""Prepares an attack on a port; the result attacks until it is killed."""


def client_hello() -> bytes:
    """Return a client's first flight, which costs the server a key exchange."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def dial(port: int, data: bytes = b"") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), 30, source_address=(ATTACKER, 0))
    if data:
        with contextlib.suppress(OSError):
            link.send(data)
    return link


def hold(port: int) -> None:
    """Keep a thousand half-open connections, and replace closed ones."""
    crowd: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            crowd.append(dial(port))
        if len(crowd) > CROWD:
            crowd.pop(0).close()
            time.sleep(0.001)


def connect(port: int) -> None:
    """Connect and close, endlessly."""
    while True:
        with contextlib.suppress(OSError):
            dial(port).close()


def shake(port: int) -> None:
    """Start handshakes without completing any."""
    crowd: list[socket.socket] = []
    hello = client_hello()
    while True:
        with contextlib.suppress(OSError):
            crowd.append(dial(port, hello))
        if len(crowd) > CROWD:
            crowd.pop(0).close()


def trickle(port: int) -> None:
    """Slow loris: a byte from time to time on each of a hundred connections."""
    hello = client_hello()
    crowd = {number: dial(port) for number in range(100)}
    for moment in itertools.count():
        for number, link in crowd.items():
            try:
                link.send(hello[moment % len(hello) :][:1])
            except OSError:
                link.close()
                crowd[number] = dial(port)
        time.sleep(0.05)


def ask_for_receipts(site: Site, port: int) -> Callable[[], None]:
    """Draw single bytes with receipts."""
    asked = range(1, OPEN_REQUESTS + 1)
    return ask_again(site, port, [Draw(1, DrawClass.DRBG, receipt=True, request_id=each) for each in asked])


def ask_for_status(site: Site, port: int) -> Callable[[], None]:
    """Call a control verb."""
    return ask_again(site, port, [Call(each, "status", {}) for each in range(1, OPEN_REQUESTS + 1)])


def ask_again(site: Site, port: int, asked: Sequence[Draw | Call]) -> Callable[[], None]:
    """Keep these requests open on all sessions of one consumer."""
    context = site.client_context(site.names[-1])
    links = [connect_drawwell(context, port) for _ in range(SESSIONS)]
    requests = {each.request_id: each.encode() for each in asked}

    def attack() -> None:
        by_fd = {link.fileno(): (link, FrameParser()) for link in links}
        poller = select.epoll()
        for fd, (link, _) in by_fd.items():
            link.sendall(b"".join(requests.values()))
            link.setblocking(False)
            poller.register(fd, select.EPOLLIN)
        while True:
            for fd, _ in poller.poll():
                link, parser = by_fd[fd]
                with contextlib.suppress(ssl.SSLWantReadError):
                    parser.feed(link.recv(16_384))
                while answer := parser.next_frame(ANSWERS):
                    assert isinstance(answer, Granted | Result | Refusal)
                    link.send(requests[answer.request_id])

    return attack


def change_keys(site: Site, port: int) -> Callable[[], None]:
    """Send only prepared key updates, on all sessions of one consumer."""
    context = site.client_context(site.names[-1])
    log = site.folder / "keys.log"
    context.keylog_filename = str(log)
    floods = []
    for _ in range(SESSIONS):
        link = connect_drawwell(context, port)
        floods.append((link, key_updates(client_secret(log, link), 1, KEY_UPDATES)))

    def attack() -> None:
        left = {link.fileno(): memoryview(records) for link, records in floods}
        poller = select.epoll()
        for fd in left:
            os.set_blocking(fd, False)
            poller.register(fd, select.EPOLLOUT)
        while left:
            for fd, _ in poller.poll():
                left[fd] = left[fd][os.write(fd, left[fd][:8192]) :]
                if not left[fd]:
                    poller.unregister(fd)
                    del left[fd]
        signal.pause()

    return attack


STRANGERS: Final[dict[str, Callable[[int], None]]] = {
    "1,000 half-open": hold,
    "connecting and closing": connect,
    "handshakes begun": shake,
    "slow loris": trickle,
}


def by_stranger(attack: Callable[[int], None]) -> Attack:
    return lambda _site, port: partial(attack, port)


ATTACKS: Final[dict[str, Attack]] = {name: by_stranger(attack) for name, attack in STRANGERS.items()} | {
    "60 sessions, receipts": ask_for_receipts,
    "60 sessions, status": ask_for_status,
    "60 sessions, key updates": change_keys,
}


@contextlib.contextmanager
def under(attack: Callable[[], None], wait_s: float) -> Iterator[None]:
    def run() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stay_on(CLIENT_CORE)
        if os.sched_getscheduler(0) == os.SCHED_FIFO:  # like the load
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.nice(19)
        attack()

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    process.start()
    time.sleep(wait_s)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def measured(links: list[ssl.SSLSocket], server: Server, seconds: float) -> Samples:
    cpu = cpu_s(server.pid)
    latencies = closed_loop(links, draw_of(32, DrawClass.DRBG), seconds)
    return figures(latencies, seconds, cpu_s(server.pid) - cpu)


def main() -> None:
    args = arguments(__doc__ or "")
    rounds, seconds = (1, 0.5) if args.quick else (3, 2.0)
    report = Report("the TLS door under attack")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), CONSUMERS + 1)  # the last one attacks
        with site.broker() as broker:
            site.wait_until_full()
            stay_on(CLIENT_CORE)
            served = site.names[:CONSUMERS]
            links = [connect_drawwell(site.client_context(name), broker.port) for name in served]
            measured(links, broker, 0.2)  # warm up
            for name, prepare in ATTACKS.items():
                progress(name)
                attack = prepare(site, broker.port)
                report.add(GROUP, "quiet", measured(links, broker, seconds))
                with under(attack, SAVED_S if name in STRANGERS else 0.5):
                    for _ in range(rounds):
                        report.add(GROUP, name, measured(links, broker, seconds))
                    if name in STRANGERS:  # after its last handshake
                        connect_drawwell(site.client_context(served[0]), broker.port).close()
    for name in ATTACKS:
        for figure in FIGURES:
            report.ratio(GROUP, name, "quiet", figure)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
