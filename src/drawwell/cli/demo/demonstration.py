"""Runs the demonstration over real sockets.

A simulated OneRNG fills a broker's reservoir, and two consumers draw from it.
"""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

from drawwell.cli.demo.consumer import DemoConsumer
from drawwell.cli.demo.proof import Proof
from drawwell.cli.demo.view import View
from drawwell.cli.output import Output
from drawwell.config.load import load
from drawwell.config.values import parse_host_port, write_text
from drawwell.crypto.tokens import parse_token
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError, Refused, SourceUnavailable
from drawwell.links.enrol import join
from drawwell.links.unix import UnixLink
from drawwell.roles.make_links_and_sinks import tls_link
from drawwell.roles.run import RunProcess
from drawwell.simulator.pty import PtyDevice
from drawwell.state.files import read_file

CONFIGURATION = """\
[broker]
name = "demo"
state_dir = {state}
run_dir = {run}

[[source]]
name = "stick"
driver = "onerng"
path = {onerng}

[tls]
listen = "127.0.0.1:{tls_port}"
names = ["127.0.0.1"]

[enrol]
listen = "127.0.0.1:{enrol_port}"
"""
CONSUMERS = {"web01": ("8KiB/s", "10MiB/day", 1024), "db01": ("2KiB/s", "16KiB/day", 512)}
"""The rate, quota and draw size of each consumer."""
HEALTHY_WITHIN_S = 120.0


class Demo:
    """A simulated OneRNG, a broker and two consumers.

    Each step uses the same interfaces as an operator.
    """

    def __init__(self, folder: str, seconds: float, out: Output) -> None:
        self._folder = folder
        self._seconds = seconds
        self._out = out
        self.customers: list[DemoConsumer] = []
        self.report: dict[str, Any] = {}

    async def run(self) -> None:
        """Run the demonstration until the device is unplugged."""
        path = self._write_configuration()
        async with PtyDevice(os.path.join(self._folder, "onerng")) as device:
            self._out.say(f"plugged in a simulated OneRNG at {device.node}")
            process = RunProcess(load(path), lambda: load(path), consumers=False)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(process.run(stop))
                try:
                    await self._main_job(process, device)
                finally:
                    stop.set()

    def _write_configuration(self) -> str:
        path = os.path.join(self._folder, "drawwell.toml")
        tls_port, enrol_port = _free_ports(2)
        places = {name: write_text(os.path.join(self._folder, name)) for name in ("state", "run", "onerng")}
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(**places, tls_port=tls_port, enrol_port=enrol_port))
        return path

    async def _main_job(self, process: RunProcess, device: PtyDevice) -> None:
        assert process.station is not None  # noqa: S101  the configuration has a source
        broker = process.station.broker
        view = View(self._out, broker, self.customers)
        await self._until_healthy(broker)
        for name, (rate, quota, piece_bytes) in CONSUMERS.items():
            await self._enrol(process, name, rate, quota, piece_bytes)
        async with asyncio.TaskGroup() as group:
            drawing = [group.create_task(customer.draw_on()) for customer in self.customers]
            try:
                await view.show_for(self._seconds)
                await self._until_provable(view)
            finally:
                for task in drawing:
                    task.cancel()
        self.report = view.snapshot()
        self._out.say(f"unplugging the simulated OneRNG at {device.node}; the next draw must fail")
        device.unplug()
        await self._until_refused()
        for customer in self.customers:
            await customer.link.aclose()

    async def _until_provable(self, view: Any) -> None:
        """Continue to draw until the consumers reach their limits.

        A busy machine can take longer than the requested time.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(HEALTHY_WITHIN_S):
                while not all(customer.provable for customer in self.customers):
                    await view.show_for(1)

    async def _until_healthy(self, broker: Any) -> None:
        """Wait for firmware verification and start-up tests."""
        async with asyncio.timeout(HEALTHY_WITHIN_S):
            while not broker.healthy_sources():
                source = broker.report().sources[0]
                doing = source.last_error or (
                    "start-up health tests"
                    if source.identity.firmware_detail
                    else "reading the firmware image"
                )
                self._out.progress(f"simulated OneRNG: {doing} …")
                await asyncio.sleep(0.1)
        self._out.say("simulated OneRNG: firmware verified, start-up tests passed, healthy")

    async def _enrol(self, process: RunProcess, name: str, rate: str, quota: str, piece_bytes: int) -> None:
        """Invite over the control socket, then join like another machine."""
        assert process.station is not None  # noqa: S101
        control = UnixLink(process.station.config.control.path)
        invitation = await control.call("consumer.invite", {"name": name, "rate": rate, "quota": quota})
        await control.aclose()
        token = parse_token(invitation["token"])
        identity = await asyncio.to_thread(join, token, os.path.join(self._folder, name))
        link = tls_link(identity.directory, parse_host_port(identity.addresses[0]))
        self.customers.append(DemoConsumer(name, link, read_file(identity.receipt_key_path), piece_bytes))
        self._out.say(f"{name} joined over TLS with a token; its limits are {rate} and {quota}")

    async def _until_refused(self) -> None:
        """Draw until the broker refuses because it has no source."""
        async with asyncio.timeout(HEALTHY_WITHIN_S):
            while True:
                try:
                    await self.customers[0].link.draw(1, DrawClass.FULL)
                except Refused as error:
                    if error.exit_code == SourceUnavailable.exit_code:
                        self.refusal = str(error)
                        return
                await asyncio.sleep(0.05)

    def prove(self, *, feed_kernel: bool = False) -> dict[str, Any]:
        """Check the results; return the findings and whether all checks passed."""
        proof = Proof(self._out)
        proof.firmware(self.report["sources"][0])
        proof.health(self.report["sources"][0])
        proof.draws(self.customers)
        proof.limits(self.customers, self.report)
        proof.ledger(self.report["ledger"])
        proof.fips(self.customers)
        for customer in self.customers:
            proof.receipt(customer)
        proof.failure(self.refusal)
        if feed_kernel:
            try:
                proof.kernel(self._folder)
            except DrawwellError as error:
                proof.skipped(f"feeding this kernel: {error}")
        return proof.document()


def _free_ports(count: int) -> list[int]:
    """Return free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
