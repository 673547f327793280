"""A minimal broker that counts grants, so that repeated bytes are visible."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from drawwell.authorisation import Principal
from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.errors import DrawwellError, UsageError


class FakeBroker:
    """Grants bytes that begin with the serial number and are not random.

    Args:
        refuse: Called before each draw with consumer and size; can raise an error.
        gate: If given, draws and calls wait until it is set.
    """

    def __init__(
        self,
        *,
        refuse: Callable[[str, int], DrawwellError | None] | None = None,
        gate: asyncio.Event | None = None,
    ) -> None:
        self.drawn_bytes: dict[str, int] = {}
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.stirred: list[tuple[str, bytes]] = []
        self.results: dict[str, dict[str, Any]] = {}
        """Answers to further verbs."""
        self.waiting = 0
        self.serial = 0
        self._refuse = refuse
        self._gate = gate
        self._moved = asyncio.Event()

    async def until_waiting(self, count: int) -> None:
        """Wait until `count` requests are waiting at the gate."""
        while self.waiting != count:
            self._moved.clear()
            await self._moved.wait()

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:
        """Grant at once unless there is a gate (Broker)."""
        return self._grant(principal.name, request) if self._gate is None else None

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        """Grant when the gate is open (Broker)."""
        await self._wait()
        return self._grant(principal.name, request)

    async def sign(self, grant: Grant) -> Grant:
        """Complete unsigned grants with an empty signature (Broker)."""
        return replace(grant, receipt=b"a receipt of nothing", unsigned=b"") if grant.unsigned else grant

    def _grant(self, consumer: str, request: DrawRequest) -> Grant:
        n_bytes, draw_class = request.n_bytes, request.draw_class
        error = self._refuse and self._refuse(consumer, n_bytes)
        if error:
            raise error
        self.serial += 1
        self.drawn_bytes[consumer] = self.drawn_bytes.get(consumer, 0) + n_bytes
        data = self.serial.to_bytes(8, "big").ljust(n_bytes, b".")[-n_bytes:]
        if request.receipt:
            return Grant(data, self.serial, draw_class, receipt_key=b"k" * 32, unsigned=b"a body")
        return Grant(data, self.serial, draw_class)

    def mix_in(self, principal: Principal, data: bytes) -> None:
        """Store the received bytes (Broker)."""
        self.stirred.append((principal.name, data))

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer `status` and `renew` with the caller and the arguments (Broker)."""
        peer = f"{principal.role}:{principal.name}"
        self.calls.append((peer, verb, args))
        await self._wait()
        if verb in self.results:
            return self.results[verb]
        if verb == "receipt-key":
            return {"large": "x" * 2**20}
        if verb not in {"status", "renew"}:
            raise UsageError(f"no such verb: {verb}", hint="Try status.")
        return {"peer": peer, "args": args}

    async def _wait(self) -> None:
        if self._gate is not None:
            self.waiting += 1
            self._moved.set()
            try:
                await self._gate.wait()
            finally:
                self.waiting -= 1
                self._moved.set()
