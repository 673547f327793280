"""The files of one link, that is, of one broker that this machine joined.

key.pem cert.pem        this machine's private key and certificate, which a renewal replaces
ca.pem receipt-key.pem  the keys that verify the broker and its receipts
link.json               broker, consumer, addresses, all brokers of the fleet, and the limits
                        at the time of joining
"""

import json
import os
import shutil
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from drawwell.crypto import pki, tokens
from drawwell.errors import AuthenticationFailed, StateUnavailable, UsageError
from drawwell.ownership import rights_of_owner
from drawwell.state.files import (
    make_new_directory,
    make_private_directory,
    read_file,
    replace_file,
    sync_directory,
)
from drawwell.wire.brokers import NONE_KNOWN, KnownBroker, KnownBrokers, fleet_host, in_order
from drawwell.wire.enrolment import JoinReply

KEY: Final = "key.pem"
CERTIFICATE: Final = "cert.pem"
CA: Final = "ca.pem"
RECEIPT_KEY: Final = "receipt-key.pem"
LINK: Final = "link.json"
KEYS: Final = "keys.json"
"""The signed list of the broker's roots and receipt keys; missing before the first renewal."""
LINKS: Final = "links"
"""The directory of all links, below the state directory."""
JOIN_AGAIN: Final = (
    "Ask the broker's operator to run 'drawwell consumer invite', then run 'drawwell join --force'."
)


@dataclass(frozen=True, slots=True)
class LinkIdentity:
    """This machine's identity at one broker; `addresses` are ``host:port``."""

    directory: str
    broker: str
    consumer: str
    addresses: tuple[str, ...]
    known: KnownBrokers = NONE_KNOWN
    """The fleet's brokers; empty for a single broker or one of release 0.1."""

    @property
    def server_name(self) -> str | None:
        """The name in the brokers' certificates, or None if it is the address."""
        return fleet_host(self.known.fleet) if self.known.fleet else None

    def all_brokers(self, prefer: str = "") -> list[KnownBroker]:
        """Return the brokers in the order in which to try them."""
        if not self.known.fleet:
            return [KnownBroker(self.broker, self.addresses)]
        return in_order(self.known.brokers, self.consumer, prefer)

    @property
    def key_path(self) -> str:
        """The path of the private key."""
        return os.path.join(self.directory, KEY)

    @property
    def certificate_path(self) -> str:
        """The path of the certificate."""
        return os.path.join(self.directory, CERTIFICATE)

    @property
    def ca_path(self) -> str:
        """The path of the broker's CA."""
        return os.path.join(self.directory, CA)

    @property
    def receipt_key_path(self) -> str:
        """The path of the key that verifies the broker's receipts."""
        return os.path.join(self.directory, RECEIPT_KEY)

    def classes(self) -> str:
        """Return the classes granted at joining, such as ``drbg+full``."""
        return str(_read_link(self.directory).get("class", ""))

    def begins(self) -> float:
        """Return when the certificate becomes valid; same errors as `expires`."""
        return facts_of(self.certificate_path).not_before

    def expires(self) -> float:
        """Return when the certificate expires, in seconds since 1970.

        Raises:
            StateUnavailable: the certificate cannot be read.
        """
        return facts_of(self.certificate_path).not_after

    def clock_note(self, now: float) -> str:
        """Describe a problem with the certificate's dates, or return ""."""
        if self.begins() > now:
            return "the certificate is not valid yet: this machine's clock is slow, or the broker's clock was fast"
        if self.expires() <= now:
            return "the certificate has expired: this machine was off for too long, or a clock is wrong"
        return ""

    def renewal_due(self, now: float) -> bool:
        """Return whether to renew the certificate now; same errors as `expires`."""
        facts_of(self.certificate_path)
        return pki.renewal_due(read_file(self.certificate_path), now)


def load(directory: str) -> LinkIdentity:
    """Read a link's directory.

    Raises:
        StateUnavailable: the files are missing, or were not written by `join`.
    """
    path = os.path.join(directory, LINK)
    try:
        link = _read_link(directory)
        identity = LinkIdentity(
            directory,
            str(link["broker"]),
            str(link["consumer"]),
            (link["addresses"][0], *link["addresses"][1:]),
            _known(link),
        )
        others = (address for broker in identity.known.brokers for address in broker.addresses)
        for address in (*identity.addresses, *others):
            tokens.parse_address(address)
    except (ValueError, TypeError, LookupError, AttributeError, UsageError) as error:
        raise StateUnavailable(f"{path} was not written by 'drawwell join'", hint=JOIN_AGAIN) from error
    return identity


def _known(link: Any) -> KnownBrokers:
    return KnownBrokers.read(link) if "brokers" in link else NONE_KNOWN


def _read_link(directory: str) -> Any:
    return json.loads(read_file(os.path.join(directory, LINK)))


def remove(identity: LinkIdentity) -> None:
    """Remove an identity with its private key.

    Raises:
        StateUnavailable: the identity cannot be removed.
    """
    try:
        with rights_of_owner(identity.directory):
            shutil.rmtree(identity.directory)
    except OSError as error:
        raise StateUnavailable(
            f"cannot remove {identity.directory}: {(error.strerror or str(error)).lower()}",
            hint="Check the permissions of the directory.",
        ) from error


def load_all(links: str) -> list[LinkIdentity]:
    """Read all links below `links`, sorted by name; same errors as `load`."""
    with rights_of_owner(links):
        if not os.path.isdir(links):
            return []
        names = sorted(entry.name for entry in os.scandir(links) if not entry.name.startswith("."))
        joined = [name for name in names if os.path.exists(os.path.join(links, name, LINK))]
    return [load(os.path.join(links, name)) for name in joined]


class Staging:
    """A new link directory, which appears complete or not at all.

    It is created before the secret is sent, so a full disk does not waste the invitation.

    Raises:
        UsageError: the link exists and `force` is not set, or the directory is not a link.
        StateUnavailable: the directory cannot be written.
    """

    def __init__(self, directory: str, *, force: bool) -> None:
        self.directory = os.path.abspath(directory)
        parent, name = os.path.split(self.directory)
        self._new, self._old = os.path.join(parent, f".{name}.new"), os.path.join(parent, f".{name}.old")
        with rights_of_owner(self.directory):
            _check_replaceable(self.directory, force=force)
        self.discard()
        make_private_directory(parent)
        make_new_directory(self._new)
        self.key_pem, self.csr_pem = pki.new_key_and_csr("joining")
        replace_file(os.path.join(self._new, KEY), self.key_pem)

    def finish(self, reply: JoinReply, keys: str = "") -> LinkIdentity:
        """Write all files and move the directory into place."""
        link = {
            "broker": reply.broker,
            "consumer": reply.consumer,
            "addresses": reply.addresses,
            "rate": reply.rate,
            "quota": reply.quota,
            "class": reply.draw_class,
            **(reply.known.document() if reply.known.brokers else {}),
        }
        for name, text in (
            (CERTIFICATE, reply.certificate),
            (CA, reply.ca_certificate),
            (RECEIPT_KEY, reply.receipt_public_key),
            (LINK, json.dumps(link, indent=2) + "\n"),
            *([(KEYS, keys)] if keys else []),
        ):
            replace_file(os.path.join(self._new, name), text.encode(), 0o644)
        try:
            with rights_of_owner(self.directory):
                self._put_in_place()
        except OSError as error:
            raise StateUnavailable(
                f"cannot write {self.directory}: {error}",
                hint="Check the directory's permissions, and join again.",
            ) from error
        return load(self.directory)

    def _put_in_place(self) -> None:
        if os.path.lexists(self.directory):
            shutil.rmtree(self._old, ignore_errors=True)
            os.rename(self.directory, self._old)
        os.rename(self._new, self.directory)
        sync_directory(os.path.dirname(self.directory))
        shutil.rmtree(self._old, ignore_errors=True)

    def discard(self) -> None:
        """Remove an unfinished directory."""
        with rights_of_owner(self.directory):
            shutil.rmtree(self._new, ignore_errors=True)


def check_certificate(certificate: bytes, key_pem: bytes, ca_certificate: bytes, consumer: str) -> None:
    """Check that a certificate is for the given key, CA and consumer.

    Raises:
        AuthenticationFailed: the certificate is for another key, CA or consumer.
    """
    try:
        facts = pki.read_certificate(certificate)
        good = (
            facts.spki_sha256 == pki.key_spki_sha256(key_pem)
            and _leads_to(certificate, ca_certificate)
            and pki.consumer_name(facts) == consumer
        )
    except ValueError:
        good = False
    if not good:
        raise AuthenticationFailed("the broker sent a certificate that is not for this machine")


def _leads_to(certificate: bytes, authorities: bytes) -> bool:
    """Return whether a chain leads to one of the CAs; raises ValueError."""
    chain = pki.pem_blocks(certificate)
    signed = all(pki.is_issued_by(child, issuer) for child, issuer in pairwise(chain))
    return signed and any(pki.is_issued_by(chain[-1], ca) for ca in pki.pem_blocks(authorities))


def _check_replaceable(directory: str, *, force: bool) -> None:
    """Check that `directory` is unused or has an identity to be replaced."""
    if not os.path.lexists(directory):
        return
    if not os.path.exists(os.path.join(directory, LINK)):
        raise UsageError(f"{directory} exists and is not an identity", hint="Use another --name or --dir.")
    if not force:
        raise UsageError(
            f"{directory} already exists", hint="Use another --name, or --force to replace that identity."
        )


def facts_of(path: str) -> pki.CertificateFacts:
    try:
        return pki.read_certificate(read_file(path))
    except ValueError as error:
        raise StateUnavailable(f"{path}: {error}", hint=JOIN_AGAIN) from error
