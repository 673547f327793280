"""A broker's certificate from its fleet's root; admission of brokers."""

import asyncio
import logging
from typing import Any, Final, Protocol

from drawwell.config.model import Config
from drawwell.crypto.hierarchy import PublicKeys
from drawwell.errors import (
    DrawwellError,
    PermissionRefused,
    UsageError,
)
from drawwell.fleet.mail import BrokerMail, FleetOwner
from drawwell.fleet.shared_address import SharedAddress
from drawwell.wire.enrolment import FleetReply, JoinRefusal, JoinRequest

log = logging.getLogger("drawwell.fleet")
EVERY_S: Final = 60.0


class AsksSigner(Protocol):
    """The signer of this broker; raises StateUnavailable if it is down."""

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request; return the result, or raise the error in the answer."""

    def public(self) -> PublicKeys:
        """Return the public part of the keys."""


class FleetMembership:
    """Requests certificates from the fleet's root, or issues them.

    Args:
        config: A configuration with [fleet].
        keys: The signer.

    Raises:
        StateUnavailable: from every method: the store or the signer is unavailable.
    """

    def __init__(self, config: Config, keys: AsksSigner) -> None:
        self._config = config
        self._keys = keys
        self._mail, self._owner = BrokerMail(config), FleetOwner(config)
        self.invited_until = 0.0
        """When the last invitation for a broker expires, in seconds since 1970."""
        self.trouble = ""

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                await asyncio.to_thread(self.follow)
                await asyncio.sleep(EVERY_S)
        finally:
            self._mail.close()
            self._owner.close()

    def open(self) -> None:
        """Prepare to admit brokers; raise PermissionRefused for non-owners."""
        self._owner.require()
        self.follow()

    def follow(self) -> None:
        """Issue and request certificates and update the keys; log any failure."""
        try:
            self._follow()
            self.trouble = ""
        except (DrawwellError, ValueError) as error:
            if str(error) != self.trouble:
                log.warning("fleet: %s", error)
            self.trouble = str(error)

    def admit(self, request: JoinRequest) -> FleetReply | JoinRefusal:
        """Return an invited broker's certificate and the store's address."""
        try:
            answer = self._keys.ask(
                "fleet-admit",
                invitation=request.invitation,
                secret=request.secret.hex(),
                csr=request.csr,
                receipt_key=request.receipt_key,
            )
        except (PermissionRefused, ValueError) as error:
            return JoinRefusal("refused", str(error))
        except UsageError as error:
            return JoinRefusal("unavailable", f"{error}; run 'drawwell pki import-root FILE' there")
        try:
            shared = SharedAddress.of(self._config.fleet.store).by(*self._owner.admit(answer["broker"]))
        except PermissionRefused as error:
            return JoinRefusal("unavailable", str(error))
        self._owner.publish_keys(answer["keys"])
        log.info("broker %s joined the fleet", answer["broker"])
        return FleetReply(
            **{name: str(answer[name]) for name in ("broker", "fleet", "certificate", "root", "keys")},
            store=shared.address,
            password=shared.password,
            store_ca=shared.ca,
        )

    def _follow(self) -> None:
        found = self._keys.ask("fleet-describe")
        self.invited_until = float(found["invited_until"])
        if found["holds_root"]:
            for broker, csr in self._owner.requests():
                self._certify(broker, csr)
            self._owner.publish_keys(self._keys.public().key_list.decode())
            return
        if keys := self._mail.keys():
            self._keys.ask("fleet-follow", keys=keys)
        if csr := self._keys.ask("fleet-describe")["csr"]:
            self._be_certified(str(csr))

    def _certify(self, broker: str, csr: str) -> None:
        try:
            certificate = self._keys.ask("fleet-renew", broker=broker, csr=csr)["certificate"]
        except (PermissionRefused, ValueError) as error:
            log.warning("fleet: cannot certify broker %s: %s", broker, error)
            self._owner.drop(broker, csr)
            return
        self._owner.answer(broker, csr, certificate)

    def _be_certified(self, csr: str) -> None:
        if certificate := self._mail.certificate():
            try:
                self._keys.ask("fleet-take", certificate=certificate)
            except (DrawwellError, ValueError) as error:  # it is for an earlier key: request again
                log.warning("fleet: the certificate in the store is not for this broker: %s", error)
        if self._keys.ask("fleet-describe")["csr"]:
            self._mail.ask_certificate(csr)
