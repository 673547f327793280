"""Measure a server's memory, idle and per idle consumer, over mutual TLS.

Every consumer has its own name, certificate and DRBG, and has drawn once. The comparison is
with socat (one process per connection) and stunnel (one thread and one program per
connection). PSS divides a page by the number of processes that share it. Per consumer it is
more accurate than RSS, which counts such pages repeatedly.
"""

import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rig import peers
from rig.load import connect, connect_drawwell, draw_of, exchange_once
from rig.processes import CLIENT_CORE, Server, memory_kib, raise_file_limit, stay_on
from rig.report import Report, arguments, progress
from rig.site import Site

from drawwell.entropy.blocks import DrawClass

SETTLE_S: Final = 0.5
Connect = Callable[[ssl.SSLContext, int], ssl.SSLSocket]


def connect_and_draw(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    link = connect_drawwell(context, port)
    exchange_once(link, draw_of(32, DrawClass.DRBG))
    return link


def connect_and_stop(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    """Read a chunk of the stream; the sender then fills kernel buffers."""
    link = connect(context, port)
    link.recv(32)
    return link


def measure(
    report: Report, name: str, server: Server, connect_one: Connect, contexts: list[ssl.SSLContext]
) -> None:
    consumers = len(contexts)
    progress(f"{name}, {consumers:,} consumers")
    rss, pss = memory_kib(server.pid)
    links = [connect_one(context, server.port) for context in contexts]
    time.sleep(SETTLE_S)
    rss_then, pss_then = memory_kib(server.pid)
    measured = {
        "idle RSS MiB": rss / 1024,
        "idle PSS MiB": pss / 1024,
        "RSS KiB a consumer": (rss_then - rss) / consumers,
        "PSS KiB a consumer": (pss_then - pss) / consumers,
    }
    report.add(f"{consumers:,} consumers", name, measured)
    for link in links:
        link.close()


def main() -> None:
    args = arguments(__doc__ or "")
    most = 100 if args.quick else 1000
    report = Report("memory over mutual TLS 1.3")
    raise_file_limit()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), most)
        stay_on(CLIENT_CORE)
        contexts = [site.client_context(name) for name in site.names]
        for consumers in sorted({100, most}):
            with site.broker() as broker:
                site.wait_until_full()
                measure(report, "drawwell", broker, connect_and_draw, contexts[:consumers])
        others = {
            "socat, fork": (peers.has_socat, peers.socat),
            "stunnel + cat": (peers.has_stunnel, peers.stunnel),
        }
        for name, (has, serve) in others.items():
            if not has():
                report.missing(name.split(",")[0].split()[0], "socat" if "socat" in name else "stunnel4")
                continue
            with ExitStack() as servers:
                server = servers.enter_context(serve(site, "/dev/urandom"))
                measure(report, name, server, connect_and_stop, contexts[:100])
            report.ratio("100 consumers", "drawwell", name, "PSS KiB a consumer")
            report.ratio("100 consumers", "drawwell", name, "idle PSS MiB")
    report.show(as_json=args.json)


if __name__ == "__main__":
    main()
