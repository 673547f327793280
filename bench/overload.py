"""What those who are served lose while others attack the TLS door: 32-byte draws of ten consumers, quiet and beside
each attack in turn.

The attackers come from one other loopback address, in a process on the load's core that runs only when the load
does not: what is measured is the door, not a fight for the load's core. An attack is as hard as that process can.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from draws import figures
from rig.load import closed_loop, connect_drawwell, draw_of
from rig.processes import CLIENT_CORE, Server, cpu_s, raise_file_limit, stay_on
from rig.report import Report, Samples, arguments, progress
from rig.site import Site

from drawwell.entropy.blocks import DrawClass

CONSUMERS: Final = 10
ATTACKER: Final = "127.0.0.66"
CROWD: Final = 1000
SAVED_S: Final = 6.0
"""Until what was saved for handshakes in quiet times is used up."""
GROUP: Final = f"32-byte draws, class drbg, {CONSUMERS} consumers"
FIGURES: Final = ("draws/s", "p99 ms")
Attack = Callable[[int], None]
"""Attacks that port until it is ended."""


def client_hello() -> bytes:
    """The first flight of a handshake, which costs the server a key exchange and a signature."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def dial(port: int, words: bytes = b"") -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), 30, source_address=(ATTACKER, 0))
    if words:
        with contextlib.suppress(OSError):
            link.send(words)
    return link


def hold(port: int) -> None:
    """A thousand half-open connections, made again as they are closed: at most so many at a time."""
    crowd: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            crowd.append(dial(port))
        if len(crowd) > CROWD:
            crowd.pop(0).close()
            time.sleep(0.001)


def connect(port: int) -> None:
    """Connect and close, without an end."""
    while True:
        with contextlib.suppress(OSError):
            dial(port).close()


def shake(port: int) -> None:
    """Begin handshakes and never end one."""
    crowd: list[socket.socket] = []
    hello = client_hello()
    while True:
        with contextlib.suppress(OSError):
            crowd.append(dial(port, hello))
        if len(crowd) > CROWD:
            crowd.pop(0).close()


def trickle(port: int) -> None:
    """Slow loris: a byte now and then on each of a hundred connections."""
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


ATTACKS: Final[dict[str, Attack]] = {
    "1,000 half-open": hold,
    "connecting and closing": connect,
    "handshakes begun": shake,
    "slow loris": trickle,
}


@contextlib.contextmanager
def under(attack: Attack, port: int) -> Iterator[None]:
    def run() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stay_on(CLIENT_CORE)
        os.nice(19)
        attack(port)

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    process.start()
    time.sleep(SAVED_S)
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
        site = Site(Path(folder), CONSUMERS)
        with site.broker() as broker:
            site.wait_until_full()
            stay_on(CLIENT_CORE)
            links = [connect_drawwell(site.client_context(name), broker.port) for name in site.names]
            measured(links, broker, 0.2)  # warm
            for name, attack in ATTACKS.items():
                progress(name)
                report.add(GROUP, "quiet", measured(links, broker, seconds))
                with under(attack, broker.port):
                    for _ in range(rounds):
                        report.add(GROUP, name, measured(links, broker, seconds))
                    connect_drawwell(
                        site.client_context(site.names[0]), broker.port
                    ).close()  # behind its last one
    for name in ATTACKS:
        for figure in FIGURES:
            report.ratio(GROUP, name, "quiet", figure)
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
