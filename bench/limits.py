"""Measure the least CPU that a handshake and a draw need.

The server's part of a handshake is a key exchange, one signature, and two verifications: of
the client's signature, and of the CA's signature in the client's certificate. OpenSSL alone
performs the handshake, in memory.

Draws of class drbg by 32 consumers are served in turn by a minimal server with accounts
(`rig/least.py`), by a bare server and by a broker.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from draws import kept
from rig import peers
from rig.load import BARE_32, connect, connect_drawwell, draw_of
from rig.processes import CLIENT_CORE, stay_on
from rig.report import Report, arguments, progress
from rig.site import Site

from drawwell.entropy.blocks import DrawClass
from drawwell.wire.contexts import server_context
from drawwell.wire.tls import TlsLayer, TlsState

CONSUMERS: Final = 32
GROUP: Final = "32-byte draws, class drbg, 32 consumers"
BARE: Final = "asyncio + ssl, bare"
LEAST: Final = "the least of a broker"


def handshake_s(site: Site) -> float:
    """Make a handshake in memory; return the CPU seconds of the server."""
    client, spent_s = TlsLayer(site.client_context("c0"), server_name="127.0.0.1"), 0.0
    server = TlsLayer(server_context(site.certificate, site.key, site.ca))
    client.start()
    while server.state is TlsState.HANDSHAKE:
        flight, begun = client.data_to_send(), time.thread_time()
        server.receive_data(flight)
        spent_s += time.thread_time() - begun
        client.receive_data(server.data_to_send())
    return spent_s


def draws(report: Report, site: Site, rounds: int, seconds: float) -> None:
    """Measure the three servers in turn."""
    draw = draw_of(32, DrawClass.DRBG)
    with ExitStack() as servers:
        ours = servers.enter_context(site.broker())
        bare = servers.enter_context(peers.bare_asyncio(site))
        least = servers.enter_context(peers.least(site))
        site.wait_until_full()
        stay_on(CLIENT_CORE)
        contexts = [site.client_context(name) for name in site.names]
        contenders = {
            "drawwell": (ours, [connect_drawwell(each, ours.port) for each in contexts], draw),
            LEAST: (least, [connect(each, least.port) for each in contexts], draw),
            BARE: (bare, [connect(each, bare.port) for each in contexts], BARE_32),
        }
        for number in range(rounds):
            for name, (server, links, exchange) in contenders.items():
                progress(f"round {number + 1} of {rounds}: {name}")
                report.add(GROUP, name, kept(links, exchange, server.pid, lambda: None)(seconds))
        for _, links, _ in contenders.values():
            for link in links:
                link.close()
    report.ratio(GROUP, LEAST, BARE, "server CPU µs")
    report.ratio(GROUP, "drawwell", LEAST, "server CPU µs")
    report.ratio(GROUP, "drawwell", BARE, "server CPU µs")


def main() -> None:
    args = arguments(__doc__ or "")
    report = Report("what no broker can save")
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), CONSUMERS)
        for _ in range(10 if args.quick else 500):
            report.add(
                "a mutual TLS 1.3 handshake, server's side",
                "OpenSSL alone",
                {"CPU µs": 1e6 * handshake_s(site)},
            )
        draws(report, site, *((1, 0.3) if args.quick else (5, 0.8)))
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
