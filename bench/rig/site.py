"""A broker and its consumers: CA, certificates, configuration."""

import asyncio
import contextlib
import os
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from drawwell.crypto import pki
from drawwell.links.unix import UnixLink
from drawwell.wire.limits import ALPN
from rig.processes import START_WITHIN_S, Server, free_port, running, wait_for_port

URANDOM: Final = """
driver = "chardev"
path = "/dev/urandom"
allow_os_generator = true
min_entropy = 6.0
"""
"""A source without a bottleneck, assessed and tested like a OneRNG."""
TERMS: Final = 'rate = "8GiB/s"\nquota = "1000GiB/day"\n'
"""Rate and quota are counted but never reached."""


class Site:
    """A broker and its consumers, each with its own key and certificate."""

    def __init__(self, folder: Path, consumers: int = 1) -> None:
        self.folder = folder
        self.names = [f"c{number}" for number in range(consumers)]
        now = time.time()
        authority = pki.new_ca("bench", now)
        self.ca = self._keep("ca.pem", authority.certificate_pem)
        key, request = pki.new_key_and_csr("bench")
        server = pki.issue_server(authority, request, ["127.0.0.1"], now)
        self.certificate = self._keep("server.pem", server)
        self.key = self._keep("server.key", key)
        for name in self.names:
            key, request = pki.new_key_and_csr(name)
            self._keep(f"{name}.key", key)
            self._keep(f"{name}.pem", pki.issue_client(authority, request, name, now))

    def client_context(self, name: str) -> ssl.SSLContext:
        """Return a consumer's context: mutual TLS 1.3, for any server name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN])
        context.load_verify_locations(self.ca)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context

    def configuration(self, port: int, source: str = URANDOM, broker: str = "") -> str:
        """Write a configuration; return its path."""
        consumers = "".join(f'[[consumer]]\nname = "{name}"\n{TERMS}' for name in self.names)
        text = f"""\
[broker]
name = "bench"
state_dir = "{self.folder}/state"
run_dir = "{self.folder}/run"
{broker}
[[source]]
name = "supply"
{source}
[tls]
listen = "127.0.0.1:{port}"
[pki]
ca = "{self.ca}"
certificate = "{self.certificate}"
key = "{self.key}"
{consumers}"""
        return self._keep("drawwell.toml", text.encode())

    @contextlib.contextmanager
    def broker(self, source: str = URANDOM, broker: str = "") -> Iterator[Server]:
        """Run a broker on the servers' core; `source` and `broker` are settings."""
        port = free_port()
        argv = [
            sys.executable,
            "-m",
            "drawwell",
            "broker",
            "-q",
            "-c",
            self.configuration(port, source, broker),
        ]
        with running(argv, stderr=None) as process:
            wait_for_port(process, port)
            yield Server(process.pid, port)

    def status(self) -> dict[str, Any]:
        """Return the running broker's report."""
        return self.ask("status", {})

    def ask(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a verb of the running broker as its owner."""

        async def ask() -> dict[str, Any]:
            link = UnixLink(f"{self.folder}/run/control.sock")
            try:
                return await link.call(verb, arguments)
            finally:
                await link.aclose()

        return asyncio.run(ask())

    def wait_until_full(self, within_s: float = START_WITHIN_S) -> None:
        """Wait until the source is healthy and the reservoir nearly full."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            status = self.status()
            if status["ready"] and status["reservoir_bytes"] > 0.98 * status["reservoir_capacity_bytes"]:
                return
            time.sleep(0.02)
        raise SystemExit(f"the reservoir does not fill: {self.status()['not_ready_because'] or 'too slow'}")

    def _keep(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        os.chmod(path, 0o600)
        return str(path)
