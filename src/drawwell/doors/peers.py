"""The line of peers that are one consumer: to the broker they have one place, here each has its own.

Equal shares for all, those who wait for their bytes and those who ask again and again: whoever asked in vain keeps
his place for a while.
"""

import asyncio
from typing import Final

from drawwell.entropy.turns import Turn, Turns

KEPT_S: Final = 1.0
"""How long the place of a peer is kept that does not wait."""


class PeerLine:
    """Whose turn it is among the peers of one door; each has one place at most."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._places: dict[str, Turn] = {}
        self._waiting: dict[Turn, asyncio.Future[None]] = {}
        self._kept: dict[str, asyncio.TimerHandle] = {}

    def may_go(self, peer: str, n_bytes: int) -> bool:
        """Is it the peer's turn? It has a place from now on."""
        kept = self._kept.pop(peer, None)
        if kept:
            kept.cancel()
        if peer not in self._places:
            self._places[peer] = self._turns.join(peer, n_bytes)
        return self._turns.first() is self._places[peer]

    async def wait(self, peer: str, n_bytes: int) -> None:
        """Take a place, and return when it is the peer's turn."""
        while not self.may_go(peer, n_bytes):
            waiting = self._waiting[self._places[peer]] = asyncio.get_running_loop().create_future()
            await waiting

    def keep(self, peer: str) -> None:
        """Keep the place of a peer that got nothing, until it asks again."""
        self._kept[peer] = asyncio.get_running_loop().call_later(KEPT_S, self.leave, peer)

    def leave(self, peer: str, served_bytes: int = 0) -> None:
        """Give the peer's place up, if it has one; whose turn it is then is told."""
        if kept := self._kept.pop(peer, None):
            kept.cancel()
        if turn := self._places.pop(peer, None):
            self._turns.served(peer, served_bytes, 1)
            self._turns.leave(turn)
            self._waiting.pop(turn, None)
            self._tell_first()

    def forget(self, peer: str) -> None:
        """Drop what is known of a peer that went."""
        self.leave(peer)
        self._turns.forget(peer)

    def _tell_first(self) -> None:
        first = self._turns.first()
        waiting = self._waiting.pop(first, None) if first else None
        if waiting and not waiting.done():
            waiting.set_result(None)
