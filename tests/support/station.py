"""A complete broker process in a test's own folder, on its own addresses."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

from drawwell.config.load import load
from drawwell.config.values import parse_host_port
from drawwell.crypto.tokens import parse_token
from drawwell.errors import DrawwellError
from drawwell.links.enrol import join
from drawwell.links.identity import LinkIdentity
from drawwell.links.tls import TlsLink
from drawwell.links.unix import UnixLink
from drawwell.roles.make_links_and_sinks import tls_link
from drawwell.roles.run import RunProcess
from drawwell.testing.waiting import DEADLINE_S, LOOK_EVERY_S, until

_numbers: Final = itertools.count(1)


def own_address() -> str:
    """Return an unused address of 127.0.0.0/8, with all ports free."""
    pid, number = os.getpid(), next(_numbers)
    return f"127.{1 + pid // 256 % 250}.{pid % 256}.{number}"


class Site:
    """A broker's folder, addresses and configuration text.

    Args:
        folder: For configuration, state and sockets; short, because socket paths are limited.
        sticks: Names of the simulated sticks; each is at `folder`/NAME.
        name: The broker's name.
        broker: More lines of [broker].
        more: More tables.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "well",
        sticks: Iterable[str] = ("stick",),
        broker: str = "",
        more: str = "",
    ) -> None:
        self.folder = folder
        self.address = own_address()
        self.path = folder / "drawwell.toml"
        self.sticks = tuple(sticks)
        self._name, self._broker = name, broker
        self.write(more)

    @property
    def tls(self) -> str:
        """Address of the TLS door."""
        return f"{self.address}:55000"

    @property
    def draw_socket(self) -> str:
        """Path of the Unix door."""
        return str(self.folder / "run" / "draw.sock")

    @property
    def control_socket(self) -> str:
        """Path of the control socket."""
        return str(self.folder / "run" / "control.sock")

    def write(self, more: str) -> None:
        """Write the configuration, with other tables at the end."""
        sources = "".join(
            f'[[source]]\nname = "{name}"\npath = "{self.folder}/{name}"\nverify_firmware = "off"\nstall = 1\n'
            for name in self.sticks
        )
        self.path.write_text(
            f'[broker]\nname = "{self._name}"\nstate_dir = "{self.folder}/state"\nrun_dir = "{self.folder}/run"\n'
            f'{self._broker}\n{sources}[tls]\nlisten = "{self.tls}"\nnames = ["{self.address}"]\n{more}\n'
        )

    async def ask(self, verb: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call a control verb of the running broker, as its owner."""
        link = UnixLink(self.control_socket)
        try:
            return await link.call(verb, arguments or {})
        finally:
            await link.aclose()

    async def command(self, source: str, verb: str, **arguments: Any) -> dict[str, Any]:
        """Send a command to a source."""
        return await self.ask("source.command", {"source": source, "verb": verb, "args": arguments})

    async def enrol(self, name: str, **terms: str) -> LinkIdentity:
        """Invite a machine and let it join, as two operators would."""
        invitation = await self.ask("consumer.invite", {"name": name, **terms})
        directory = str(self.folder / name)
        return await asyncio.to_thread(join, parse_token(invitation["token"]), directory, force=True)

    def link(self, identity: LinkIdentity) -> TlsLink:
        """Return the link of a joined machine."""
        return tls_link(identity.directory, parse_host_port(self.tls))

    async def until_healthy(self, count: int | None = None, *, share: float = 0.5) -> dict[str, Any]:
        """Wait for healthy sources (default: all) and a filled reservoir."""
        wanted = len(self.sticks) if count is None else count
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with contextlib.suppress(DrawwellError):
                    status = await self.ask("status")
                    filled = status["reservoir_bytes"] >= share * status["reservoir_capacity_bytes"]
                    if status["healthy_sources"] == wanted and filled:
                        return status
                await asyncio.sleep(LOOK_EVERY_S)


@contextlib.asynccontextmanager
async def running(site: Site, *, consumers: bool = False) -> AsyncIterator[RunProcess]:
    """Run the site's configuration in the block; raise its error unchanged."""
    process = RunProcess(load(str(site.path)), lambda: load(str(site.path)), consumers=consumers)
    stop = asyncio.Event()
    failed: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        served = group.create_task(process.run(stop))
        await until(lambda: served.done() or os.path.exists(site.control_socket), "it serves")
        try:
            yield process
        except BaseException as error:  # noqa: BLE001 - raised below, without a group round it
            failed = error
        stop.set()
    if failed is not None:
        raise failed
