"""Batched signing of receipts after the grant.

`broker.py` returns a grant with the unsigned body of its receipt. The door then awaits
`Signing.sign`, which passes up to 16 bodies at a time to `BrokerReceipts.sign`. The `KeyRing`
signs them with Ed25519, in this process or in the signer process (links/signer.py). Apart from
receipts, the `KeyRing` signs only heads of the audit log. The granted bytes are already
charged, and a lost signature is not repeated. Without a signer, draws with a receipt are
refused.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from drawwell.authorisation import Principal
from drawwell.broker.batches import Batches
from drawwell.crypto.hierarchy import KeyList
from drawwell.crypto.receipt_form import join_receipt
from drawwell.crypto.receipts import public_key_id
from drawwell.enrolment.ca import SigningKeys
from drawwell.entropy.blocks import Grant
from drawwell.errors import StateUnavailable
from drawwell.ports import BodySigner
from drawwell.verbs import Handler

_LARGEST_BATCH: Final = 16
"""A signature takes 0.1 ms; on a single core, the event loop waits for the signing thread."""
MOST_UNSIGNED: Final = 4096
"""The maximum number of grants that wait for a signature."""


class Signing:
    """Has the receipts of one broker signed in batches.

    Args:
        signer: Signs the bodies.
    """

    def __init__(self, signer: BodySigner) -> None:
        self._signer = signer
        self._batches = Batches(signer.sign, _LARGEST_BATCH)
        self.run = self._batches.run
        self.lost = 0
        """The number of grants whose receipt was not signed."""

    @property
    def key_id(self) -> str:
        """The ID of the current key."""
        return self._signer.key_id

    def require(self) -> None:
        """Check that receipts can be signed now.

        Raises:
            StateUnavailable: receipts cannot be signed.
        """
        fault = self._signer.fault
        if len(self._batches) >= MOST_UNSIGNED:
            fault = f"{MOST_UNSIGNED} receipts are already waiting for a signature"
        if fault:
            raise StateUnavailable(
                f"cannot sign receipts: {fault}", hint="Draw without a receipt, or try again later."
            )

    async def sign(self, grant: Grant) -> Grant:
        """Return the grant with its signed receipt; see `ports.Broker.sign`."""
        if not grant.unsigned:
            return grant
        try:
            signature = await self._batches.submit(grant.unsigned)
        except StateUnavailable as error:
            self.lost += 1
            raise StateUnavailable(
                f"the receipt was not signed, and the bytes are lost: {error}",
                hint="The lost bytes are charged. Draw again; if the error persists, draw without a receipt.",
            ) from error
        return replace(grant, receipt=join_receipt(grant.unsigned, signature), unsigned=b"")


class BrokerReceipts:
    """Signs with the current receipt key of `keys` (BodySigner, SignsTexts)."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys
        self.key_id = ""
        """The ID of the current key in receipts; "" until the signer has been reached."""
        self.all_keys = ""
        """The current key and earlier keys, in PEM."""
        self._looking = threading.Lock()

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of the verb ``receipt-key``."""
        return {"receipt-key": self._answer_keys}

    async def _answer_keys(self, _principal: Principal) -> dict[str, Any]:
        self.require()
        return {"public_key": self.all_keys}

    def require(self) -> None:
        """Raise StateUnavailable unless receipts can be signed now; never wait.

        If they cannot, a thread tries to reach the signer again.
        """
        try:
            self._keys.require()
        except StateUnavailable:
            self._look_again()
            raise
        if not self.key_id:
            self._look_again()
            raise StateUnavailable("the signer has not been reached yet", hint="Try again in a second.")

    def _look_again(self) -> None:
        if self._looking.acquire(blocking=False):
            threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            with suppress(StateUnavailable):
                self.refresh()
        finally:
            self._looking.release()

    def refresh(self) -> None:
        """Request the keys and wait. Raises the same errors as `require`."""
        public = self._keys.public()
        listed = KeyList.read(public.key_list, public.roots).receipt_keys
        own = public.receipt_key.decode()
        others = [key.public_key for key in listed if key.public_key != own]
        self.all_keys = "".join((own, *others))
        self.key_id = public_key_id(public.receipt_key)

    @property
    def fault(self) -> str:
        """Why receipts cannot be signed now, or "" if they can (BodySigner)."""
        try:
            self.require()
        except StateUnavailable as error:
            return str(error)
        return ""

    async def sign(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Sign each body (BodySigner)."""
        try:
            return await self._keys.sign_soon(bodies)
        except ValueError as error:
            raise StateUnavailable(f"the signer refused the receipts: {error}") from error

    def sign_text(self, text: bytes) -> bytes:
        """Sign a head of the audit log. Raises the same errors as `require`."""
        [signature] = self._keys.sign([text])
        return signature
