"""Measure MB/s of class drbg over mutual TLS for 1 and 10 consumers.

openssl s_server and socat are measured in the same run, with the same cipher, certificates and
client. With /dev/urandom they do the same work, random bytes; with /dev/zero they show the
cost of TLS alone. s_server serves one client at a time, so it does not run with ten.

The server has one core, the client the other. The CPU seconds include all processes of the
server.
"""

import select
import ssl
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rig import peers
from rig.load import WAIT_S, connect, connect_drawwell, draw_of, exchange_once
from rig.processes import CLIENT_CORE, Server, cpu_s, stay_on
from rig.report import Report, Samples, arguments, progress
from rig.site import Site

from drawwell.entropy.blocks import DrawClass
from drawwell.wire.frames import Draw, Granted
from drawwell.wire.limits import MAX_DRAW_BYTES

AHEAD: Final = 16
"""Open draws: 1 MiB in total, so that the server never waits for the client."""
FRAME_BYTES: Final = draw_of(MAX_DRAW_BYTES, DrawClass.DRBG).answer_bytes
S_SERVER: Final = "openssl s_server"
CIPHER: Final = "TLS_AES_256_GCM_SHA384"


@dataclass
class Taker:
    """One consumer of a stream; with `asks` it requests each 64 KiB."""

    link: ssl.SSLSocket
    asks: bool
    taken: int = 0
    buffer: bytearray = field(default_factory=lambda: bytearray(1 << 18))

    def begin(self) -> None:
        if self.link.cipher()[0] != CIPHER:  # type: ignore[index]  # after the handshake there is one
            raise SystemExit(f"{self.link.cipher()} and not {CIPHER}")
        self.link.setblocking(False)
        self.taken = 0
        if self.asks:
            self.link.send(b"".join(map(self._request, range(1, AHEAD + 1))))

    def take(self) -> int:
        """Read the available bytes; request another 64 KiB for each completed one."""
        taken = 0
        try:
            while n_bytes := self.link.recv_into(self.buffer):
                if self.asks:
                    self._ask_on(n_bytes)
                taken += n_bytes
        except ssl.SSLWantReadError:
            return taken
        raise SystemExit("the server closed the connection")

    def _ask_on(self, n_bytes: int) -> None:
        before, self.taken = self.taken, self.taken + n_bytes
        begins = -before % FRAME_BYTES  # the rest belongs to the next frame
        if begins < n_bytes and self.buffer[begins] != Granted.TYPE:
            raise SystemExit(f"not a grant but: {bytes(self.buffer[begins:n_bytes][:200])!r}")
        for number in range(before // FRAME_BYTES, self.taken // FRAME_BYTES):
            self.link.send(self._request(AHEAD + 1 + number))

    @staticmethod
    def _request(number: int) -> bytes:
        return Draw(MAX_DRAW_BYTES, DrawClass.DRBG, request_id=number).encode()


def measure(takers: list[Taker], pid: int, seconds: float) -> Samples:
    """Read as much as possible for this time."""
    poller = select.epoll()
    by_fd = {taker.link.fileno(): taker for taker in takers}
    for fd, taker in by_fd.items():
        poller.register(fd, select.EPOLLIN)
        taker.begin()
    taken, cpu, begun = 0, cpu_s(pid), time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:
        for fd, _ in poller.poll(WAIT_S):
            taken += by_fd[fd].take()
    used = cpu_s(pid) - cpu
    poller.close()
    return {"MB/s": taken / 1e6 / (now - begun), "server CPU s/GB": 1e9 * used / taken}


def from_drawwell(site: Site, server: Server, consumers: int, seconds: float) -> Samples:
    links = [connect_drawwell(site.client_context(name), server.port) for name in site.names[:consumers]]
    for link in links:  # draw the seeds before the measurement
        exchange_once(link, draw_of(32, DrawClass.DRBG))
    return _measured_and_closed([Taker(link, asks=True) for link in links], server, seconds)


def from_peer(site: Site, server: Server, consumers: int, seconds: float) -> Samples:
    links = [connect(site.client_context(name), server.port) for name in site.names[:consumers]]
    for link in links:
        link.send(b"\n")  # s_server waits for this byte
    return _measured_and_closed([Taker(link, asks=False) for link in links], server, seconds)


def _measured_and_closed(takers: list[Taker], server: Server, seconds: float) -> Samples:
    measured = measure(takers, server.pid, seconds)
    for taker in takers:
        taker.link.close()
    return measured


def others(site: Site, servers: ExitStack, report: Report) -> dict[str, Server]:
    """Start the installed peers."""
    started = {}
    for device in ("/dev/urandom", "/dev/zero"):
        if peers.has_openssl():
            started[f"{S_SERVER}, {device}"] = servers.enter_context(peers.s_server(site, device))
        if peers.has_socat():
            started[f"socat, {device}"] = servers.enter_context(peers.socat(site, device))
    for has, program in ((peers.has_openssl, "openssl"), (peers.has_socat, "socat")):
        if not has():
            report.missing(program, program)
    return started


def compare(
    report: Report,
    site: Site,
    broker: Server,
    other: dict[str, Server],
    *,
    consumers: int,
    rounds: int,
    seconds: float,
) -> None:
    """Measure all contenders in turn, `rounds` times."""
    group = f"{consumers} consumer{'s' * (consumers > 1)}"
    for number in range(rounds):
        progress(f"{group}, round {number + 1} of {rounds}")
        report.add(group, "drawwell drbg", from_drawwell(site, broker, consumers, seconds))
        for name, server in other.items():
            report.add(group, name, from_peer(site, server, consumers, seconds))
    for name in other:
        report.ratio(group, "drawwell drbg", name, "MB/s")
        report.ratio(group, "drawwell drbg", name, "server CPU s/GB")


def main() -> None:
    args = arguments(__doc__ or "")
    rounds, seconds = (1, 0.3) if args.quick else (3, 1.0)
    report = Report(f"random bytes over mutual TLS 1.3, {CIPHER}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        site = Site(Path(folder), 10)
        broker = servers.enter_context(site.broker())
        other = others(site, servers, report)
        site.wait_until_full()
        stay_on(CLIENT_CORE)
        compare(report, site, broker, other, consumers=1, rounds=rounds, seconds=seconds)
        many_at_once = {name: server for name, server in other.items() if not name.startswith(S_SERVER)}
        compare(report, site, broker, many_at_once, consumers=10, rounds=rounds, seconds=seconds)
    report.notes.append(f"{S_SERVER} serves one client at a time: not run with ten")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
