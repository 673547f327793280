"""A machine with signer, broker and source in processes of their own."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

from drawwell.crypto.pki import pem_blocks
from drawwell.crypto.receipts import verify_receipt
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.links.identity import LinkIdentity
from drawwell.links.renewal import renew_if_due
from drawwell.testing.waiting import wait_until
from support.daemon import Daemon, command
from support.station import Site


class Host:
    """One machine with signer, broker and source in separate processes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.folder

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run all three until the block ends."""
        with self.process("signer", "run") as signer, contextlib.ExitStack() as others:
            signer.wait_for_text("listening on")  # wording: a name
            self.broker = others.enter_context(self.process("broker", "run"))
            others.enter_context(self.process("source", "run", "stick"))
            self.until_ready()
            yield

    def process(self, *arguments: str) -> Daemon:
        return Daemon(*arguments, config=self.site.path, log=self.folder / f"{arguments[0]}.log")

    def typed(self, *arguments: str) -> str:
        done = command(*arguments, config=self.site.path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def until_ready(self) -> None:
        def ready() -> bool:
            done = command("status", "--json", config=self.site.path)
            return done.returncode == 0 and json.loads(done.stdout)["ready"]

        wait_until(ready, "the broker is ready")

    def rotate(self, key: str) -> None:
        """Rotate a key, and make the broker adopt the new one at once."""
        self.typed("pki", "rotate", key)
        times = self.broker.output.count("reloaded the config")
        self.broker.send(signal.SIGHUP)
        wait_until(
            lambda: self.broker.output.count("reloaded the config") > times,
            "the broker follows",
        )

    def join(self, name: str) -> LinkIdentity:
        return asyncio.run(self.site.enrol(name))

    def draw(self, identity: LinkIdentity, *, receipt: bool = False) -> Grant:
        async def run() -> Grant:
            async with contextlib.aclosing(self.site.link(identity)) as link:
                return await link.draw(8, DrawClass.DRBG, receipt=receipt)

        return asyncio.run(run())

    def proved(self, identity: LinkIdentity) -> bytes:
        """Draw with a receipt, and verify it with the identity's keys."""
        grant = self.draw(identity, receipt=True)
        present, *_ = pem_blocks(Path(identity.receipt_key_path).read_bytes())
        verify_receipt(grant.receipt, present, bytes(grant.data), grant.receipt_key)
        return grant.receipt

    def renew(self, identity: LinkIdentity) -> None:
        async def run() -> None:
            async with contextlib.aclosing(self.site.link(identity)) as link:
                assert await renew_if_due(link, identity, 0.0, force=True)

        asyncio.run(run())
