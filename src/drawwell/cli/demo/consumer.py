"""A consumer in the demonstration, and the bytes that it has drawn."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from drawwell.assess.fips140.verdict import BLOCK_BYTES, WORD_BYTES
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import Refused

if TYPE_CHECKING:
    from drawwell.links.tls import TlsLink


@dataclass
class DemoConsumer:
    """A machine that joined, with its link and its drawn bytes."""

    name: str
    link: "TlsLink"
    receipt_key_pem: bytes
    piece_bytes: int
    drawn: bytearray = field(default_factory=bytearray, repr=False)
    waits: int = 0
    last: Grant | None = None

    @property
    def provable(self) -> bool:
        """Whether the consumer has drawn a FIPS 140-2 block and reached its limit."""
        return self.waits > 0 and len(self.drawn) >= WORD_BYTES + BLOCK_BYTES

    async def draw_on(self) -> None:
        """Draw repeatedly; after a refusal, wait as long as the broker requests."""
        while True:
            try:
                self.last = await self.link.draw(self.piece_bytes, DrawClass.FULL, receipt=True)
                self.drawn += self.last.data
            except Refused as error:
                self.waits += 1
                await asyncio.sleep(error.retry_after_s if error.retry_after_s is not None else 0.2)
