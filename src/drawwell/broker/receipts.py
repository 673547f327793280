"""The receipt key of a broker, in its own process or in a signer."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

from drawwell.crypto.hierarchy import KeyList
from drawwell.crypto.receipts import public_key_id
from drawwell.enrolment.ca import SigningKeys
from drawwell.errors import StateUnavailable


class BrokerReceipts:
    """Signs by the present receipt key of `keys` (BodySigner, SignsTexts)."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys
        self.key_id = ""
        """The present key's name in receipts; "" while the signer has not been reached."""
        self.all_keys = ""
        """The present key and earlier ones, PEM."""
        self._looking = threading.Lock()

    def require(self) -> None:
        """Raise StateUnavailable unless it can be signed now; never wait.

        A thread then looks whether the signer is there again.
        """
        try:
            self._keys.require()
        except StateUnavailable:
            self._look_again()
            raise
        if not self.key_id:
            self._look_again()
            raise StateUnavailable("the signer was not reached yet", hint="Try again in a second.")

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
        """Ask for the keys and wait for the answer; raises as `require`."""
        public = self._keys.public()
        listed = KeyList.read(public.key_list, public.roots).receipt_keys
        self.all_keys = "".join(key.public_key for key in listed)
        self.key_id = public_key_id(public.receipt_key)

    @property
    def fault(self) -> str:
        """Why nothing can be signed now, "" when it can (BodySigner)."""
        try:
            self.require()
        except StateUnavailable as error:
            return str(error)
        return ""

    async def sign(self, bodies: Sequence[bytes]) -> list[bytes]:
        """Sign each body (BodySigner)."""
        try:
            return await asyncio.to_thread(self._keys.sign, bodies)
        except ValueError as error:
            raise StateUnavailable(f"the signer refuses: {error}") from error

    def sign_text(self, text: bytes) -> bytes:
        """Sign an audit head; raises as `require`."""
        [signature] = self._keys.sign([text])
        return signature
