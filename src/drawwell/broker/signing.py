"""Receipts: signed after the grant, refused before it without a signer.

The bytes are gone when the body of their receipt exists. So a lost signature is charged, and
never made a second time.
"""

from dataclasses import replace
from typing import Final

from drawwell.broker.batches import Batches
from drawwell.crypto.receipt_form import join_receipt
from drawwell.entropy.blocks import Grant
from drawwell.errors import StateUnavailable
from drawwell.ports import BodySigner

_LARGEST_BATCH: Final = 16
"""A signature takes 0.1 ms, and on one core the loop waits for the thread."""
MOST_UNSIGNED: Final = 4096
"""Grants that wait for their signatures."""


class Signing:
    """Has the receipts of one broker signed, in batches.

    Args:
        signer: Signs the bodies.
    """

    def __init__(self, signer: BodySigner) -> None:
        self._signer = signer
        self._batches = Batches(signer.sign, _LARGEST_BATCH)
        self.run = self._batches.run

    @property
    def key_id(self) -> str:
        """The name of the key that signs now."""
        return self._signer.key_id

    def require(self) -> None:
        """Return if a receipt can be signed now.

        Raises:
            StateUnavailable: it cannot.
        """
        fault = self._signer.fault
        if len(self._batches) >= MOST_UNSIGNED:
            fault = f"{MOST_UNSIGNED} wait to be signed already"
        if fault:
            raise StateUnavailable(
                f"no receipt can be signed: {fault}", hint="Draw without a receipt, or try again later."
            )

    async def sign(self, grant: Grant) -> Grant:
        """Return the grant with its signed receipt; see `ports.Broker.sign`."""
        if not grant.unsigned:
            return grant
        try:
            signature = await self._batches.submit(grant.unsigned)
        except StateUnavailable as error:
            raise StateUnavailable(
                f"the receipt was not signed, and the bytes are lost: {error}",
                hint="They are charged. Draw again, without a receipt if this happens again.",
            ) from error
        return replace(grant, receipt=join_receipt(grant.unsigned, signature), unsigned=b"")
