"""The root of a fleet, and the brokers that it invites and certifies.

fleet.json, next to the keys, contains the fleet's name. On the machine with the root, the file
also contains the brokers, each with its receipt key and the SHA-256 of its CA's key, and the
invitations, each with a hash of its secret.
"""

import json
import os
from collections.abc import Callable
from typing import Any, Final

from drawwell.crypto import pki, tokens
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import PermissionRefused, StateUnavailable, UsageError
from drawwell.state.files import read_file, replace_file

FILE: Final = "fleet.json"
INVITATION_TTL_S: Final = 3600.0
LONGEST_TTL_S: Final = 7 * pki.DAY_S
_UNKNOWN: Final = "unknown invitation or wrong secret"


class FleetKeys:
    """A broker's part in a fleet's PKI: it has the root or is certified by it.

    Only one thread at a time may use it.

    Args:
        ring: The keys of this broker.
        directory: The directory with the keys.
        name: This broker's name.
        fresh: Returns the given number of secret bytes.

    Raises:
        StateUnavailable: every method raises it if a file cannot be read or written.
    """

    def __init__(
        self, ring: KeyRing, directory: str, name: str, fresh: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._ring, self._name, self._fresh = ring, name, fresh
        self._path = os.path.join(directory, FILE)

    def describe(self, now: float) -> dict[str, Any]:
        """Return the fleet's name, its brokers, and the deadline for joining."""
        record = self._read()
        ends = [each["expires"] for each in record.get("invitations", {}).values()]
        return {
            "fleet": record.get("fleet", ""),
            "holds_root": self._ring.holds_root,
            "brokers": list(record.get("brokers", {})),
            "root": pki.spki_sha256(self._ring.public().roots).hex(),
            "invited_until": max((end for end in ends if end > now), default=0.0),
        }

    def found(self, fleet: str) -> None:
        """Make this broker's root the root of a fleet.

        Raises:
            UsageError: the root's key is not here, or this broker is in another fleet.
        """
        record = self._read()
        if record.get("fleet", fleet) != fleet:
            raise UsageError(
                f"this broker is already in the fleet {record['fleet']!r}",
                hint=f"Use that fleet's name: --fleet {record['fleet']}.",
            )
        self._ring.require_root_key()
        self._write(record | {"fleet": fleet, "brokers": record.get("brokers", {})})

    def invite(self, broker: str, ttl_s: float, now: float) -> dict[str, Any]:
        """Invite a broker; its earlier invitation becomes void.

        Returns `invitation`, `secret` (hexadecimal) and `expires`.

        Raises:
            UsageError: this broker has not founded a fleet, or the root's key is not here.
        """
        record = self._read_of_root()
        if broker == self._name:
            raise UsageError(
                f"{broker} is this broker's own name", hint="Choose another name for the new broker."
            )
        if not 0 < ttl_s <= LONGEST_TTL_S:
            raise UsageError(
                "an invitation can last at most 7 days", hint="Invite when the broker is about to join."
            )
        secret = self._fresh(tokens.SECRET_BYTES)
        identifier = tokens.invitation_name(self._fresh(tokens.INVITATION_BYTES))
        kept = {
            key: each
            for key, each in record.get("invitations", {}).items()
            if each["broker"] != broker and each["expires"] > now
        }
        kept[identifier] = {
            "broker": broker, "secret": tokens.secret_hash(secret).hex(), "expires": now + ttl_s, "key": "",
        }  # fmt: skip
        self._write(record | {"invitations": kept})
        return {"invitation": identifier, "secret": secret.hex(), "expires": now + ttl_s}

    def admit(
        self, identifier: str, secret: bytes, csr: bytes, receipt_key: bytes, now: float
    ) -> dict[str, str]:
        """Certify an invited broker; a retry with the same key is accepted.

        Raises:
            PermissionRefused: a wrong secret, or an expired or used invitation.
            UsageError: the root's key is not on this machine.
            ValueError: an invalid request or key.
        """
        record = self._read()
        invitation = record.get("invitations", {}).get(identifier)
        right = tokens.secret_matches(
            secret, bytes.fromhex(invitation["secret"]) if invitation else bytes(32)
        )
        if not (invitation and right):
            raise PermissionRefused(_UNKNOWN)
        broker, key = invitation["broker"], pki.csr_spki_sha256(csr).hex()
        if invitation["expires"] <= now:
            raise PermissionRefused(f"the invitation of {broker} has expired")
        if invitation["key"] not in {"", key}:
            raise PermissionRefused(f"the invitation of {broker} was already used")
        certificate = self._ring.certify_broker(broker, csr, receipt_key, now)
        earlier = record["brokers"].get(broker, {}).get("receipt_key", "")
        if earlier not in {"", receipt_key.decode()}:
            self._ring.end_receipt_key(earlier, now)
        invitation["key"] = key
        record["brokers"][broker] = {"key": key, "receipt_key": receipt_key.decode()}
        self._write(record)
        public = self._ring.public()
        return {
            "fleet": record["fleet"],
            "broker": broker,
            "certificate": certificate.decode(),
            "root": pki.pem_blocks(public.roots)[0].decode(),
            "keys": public.key_list.decode(),
        }

    def renew(self, broker: str, csr: bytes, now: float) -> str:
        """Certify a member's registered key again.

        Raises:
            PermissionRefused: the key is not registered for the broker.
            UsageError: the root's key is not on this machine.
            ValueError: an invalid request.
        """
        known = self._read().get("brokers", {}).get(broker, {})
        if known.get("key") != pki.csr_spki_sha256(csr).hex():
            raise PermissionRefused(f"this key does not belong to broker {broker}")
        return self._ring.certify_broker(broker, csr, b"", now).decode()

    def remove(self, broker: str, now: float) -> None:
        """Stop certifying a broker; end its receipt key; same errors as `invite`."""
        record = self._read_of_root()
        known = record["brokers"].pop(broker, None)
        if known:
            self._ring.end_receipt_key(known["receipt_key"], now)
        invitations = record.get("invitations", {}).items()
        kept = {key: each for key, each in invitations if each["broker"] != broker}
        self._write(record | {"invitations": kept})

    def member_of(self) -> str:
        """Return this broker's fleet if its root is on another machine, else ""."""
        record = self._read()
        return "" if "brokers" in record else str(record.get("fleet", ""))

    def require_own_root(self) -> None:
        """Raise UsageError, with a hint, if the root is on another machine."""
        if fleet := self.member_of():
            raise UsageError(
                f"this broker's keys belong to the fleet {fleet}, whose root is on another machine",
                hint="To get new keys, join again: stop broker and signer, move the signer's directory away, start "
                "the signer, and run 'drawwell fleet join -' with a new invitation from 'drawwell fleet invite'.",
            )

    def due(self, now: float) -> str:
        """Return a signing request if a member's certificate is due, else ""."""
        member = self._read().get("fleet") and not self._ring.holds_root
        is_due = member and self._ring.describe(now)["intermediate_is_due"]
        return self._ring.request()[0].decode() if is_due else ""

    def adopt(self, answer: dict[str, str]) -> None:
        """Become a member; same errors as `KeyRing.adopt_certificate`."""
        self._ring.adopt_certificate(
            answer["certificate"].encode(), answer["keys"].encode(), answer["root"].encode()
        )
        self._write({"fleet": answer["fleet"]})

    def request(self) -> tuple[bytes, bytes]:
        """Return the signing request and receipt key for joining a fleet."""
        return self._ring.request()

    def take(self, certificate: bytes) -> None:
        """Install a newer certificate; same errors as `adopt`."""
        self._ring.take(certificate)

    def follow(self, key_list: bytes) -> None:
        """Install a newer list of the fleet's keys, if the root is elsewhere."""
        if not self._ring.holds_root:
            self._ring.follow(key_list)

    def _read_of_root(self) -> dict[str, Any]:
        record = self._read()
        if "brokers" not in record:
            raise UsageError(
                "this machine does not have the root of a fleet",
                hint="Run the command on the machine where 'drawwell fleet init' was run.",
            )
        self._ring.require_root_key()
        return record

    def _read(self) -> dict[str, Any]:
        if not os.path.exists(self._path):
            return {}
        try:
            record: dict[str, Any] = json.loads(read_file(self._path))
        except ValueError as error:
            raise StateUnavailable(f"{self._path}: {error}", hint="Restore it from a backup.") from error
        return record

    def _write(self, record: dict[str, Any]) -> None:
        replace_file(self._path, json.dumps(record, indent=2).encode())
