"""A link within one process: the consumer calls the broker directly."""

from typing import Any, Unpack

from drawwell.authorisation import Principal, Role
from drawwell.entropy.blocks import DrawClass, DrawOptions, DrawRequest, Grant
from drawwell.ports import Broker


class MemoryLink:
    """An `Upstream` to a broker in the same process, for one consumer."""

    def __init__(self, broker: Broker, consumer: str) -> None:
        self._broker = broker
        self._principal = Principal(Role.CONSUMER, consumer)
        self.name = "memory"

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Unpack[DrawOptions]) -> Grant:
        """Draw once."""
        grant = await self._broker.draw(self._principal, DrawRequest(n_bytes, draw_class, **options))
        return await self._broker.sign(grant)

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call a control verb as this consumer."""
        return await self._broker.call(self._principal, verb, args)

    async def aclose(self) -> None:
        """Do nothing."""
