"""What a machine keeps of a broker that it joined: one directory for each link, of mode 0700.

key.pem cert.pem        this machine's private key and its certificate, which renewal replaces
ca.pem receipt-key.pem  what the broker and its receipts are checked against
link.json               broker, consumer, addresses, and the limits at the time of joining
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from drawwell.crypto import pki, tokens
from drawwell.crypto.hierarchy import KeyList
from drawwell.errors import AuthenticationFailed, StateUnavailable, UsageError
from drawwell.ownership import rights_of_owner
from drawwell.ports import Upstream
from drawwell.state.files import (
    make_new_directory,
    make_private_directory,
    read_file,
    read_secret,
    replace_file,
    sync_directory,
)
from drawwell.wire.enrolment import JoinReply

KEY: Final = "key.pem"
CERTIFICATE: Final = "cert.pem"
CA: Final = "ca.pem"
RECEIPT_KEY: Final = "receipt-key.pem"
LINK: Final = "link.json"
KEYS: Final = "keys.json"
"""The list that the receipt keys and the authority are from, after the first renewal."""
LINKS: Final = "links"
"""Where they are, below the state directory."""
_JOIN_ANEW: Final = (
    "Join anew: have the broker's operator type 'drawwell consumer invite', then 'drawwell join --force'."
)


@dataclass(frozen=True, slots=True)
class LinkIdentity:
    """Who this machine is to one broker. `addresses` are ``host:port`` of the broker's TLS door."""

    directory: str
    broker: str
    consumer: str
    addresses: tuple[str, ...]

    @property
    def key_path(self) -> str:
        """Where the private key is."""
        return os.path.join(self.directory, KEY)

    @property
    def certificate_path(self) -> str:
        """Where the certificate is."""
        return os.path.join(self.directory, CERTIFICATE)

    @property
    def ca_path(self) -> str:
        """Where the broker's CA is."""
        return os.path.join(self.directory, CA)

    @property
    def receipt_key_path(self) -> str:
        """Where the key is that the broker's receipts are checked against."""
        return os.path.join(self.directory, RECEIPT_KEY)

    def classes(self) -> str:
        """Return the classes that it might draw when it joined, such as ``drbg+full``."""
        return str(_read_link(self.directory).get("class", ""))

    def begins(self) -> float:
        """Return when the certificate becomes valid; raises as `expires`."""
        return _facts(self.certificate_path).not_before

    def expires(self) -> float:
        """Return when the certificate runs out, in seconds since 1970.

        Raises:
            StateUnavailable: it cannot be read.
        """
        return _facts(self.certificate_path).not_after

    def clock_note(self, now: float) -> str:
        """Say how far the clocks must be apart where the dates do not fit `now`, "" where they do."""
        if self.begins() > now:
            return "the certificate has not begun: this machine's clock is behind, or the broker's was ahead"
        if self.expires() <= now:
            return "the certificate has run out: this machine was off for long, or one of the clocks is wrong"
        return ""

    def renewal_due(self, now: float) -> bool:
        """Are two thirds of the certificate's life over, or has it not begun? Raises as `expires`."""
        _facts(self.certificate_path)
        return pki.renewal_due(read_file(self.certificate_path), now)


def load(directory: str) -> LinkIdentity:
    """Read a link's directory.

    Raises:
        StateUnavailable: not there, or not what `join` wrote.
    """
    path = os.path.join(directory, LINK)
    try:
        link = _read_link(directory)
        identity = LinkIdentity(
            directory, str(link["broker"]), str(link["consumer"]), tuple(link["addresses"])
        )
        for address in identity.addresses:
            tokens.parse_address(address)
    except (ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
        raise StateUnavailable(f"{path} is not what 'drawwell join' wrote", hint=_JOIN_ANEW) from error
    return identity


def _read_link(directory: str) -> Any:
    return json.loads(read_file(os.path.join(directory, LINK)))


def remove(identity: LinkIdentity) -> None:
    """Remove an identity, the private key with it.

    Raises:
        StateUnavailable: it cannot be removed.
    """
    try:
        with rights_of_owner(identity.directory):
            shutil.rmtree(identity.directory)
    except OSError as error:
        raise StateUnavailable(
            f"{identity.directory}: {(error.strerror or str(error)).lower()}",
            hint="Check who may write there.",
        ) from error


def load_all(links: str) -> list[LinkIdentity]:
    """Read every link below `links`, by name; raises as `load`."""
    with rights_of_owner(links):
        if not os.path.isdir(links):
            return []
        names = sorted(entry.name for entry in os.scandir(links) if not entry.name.startswith("."))
        joined = [name for name in names if os.path.exists(os.path.join(links, name, LINK))]
    return [load(os.path.join(links, name)) for name in joined]


class Staging:
    """A link's directory in the making: it appears whole, or not at all.

    Made before the token's secret is sent, so that a full disk or a missing right costs no invitation.

    Raises:
        UsageError: there is a link of that name and `force` is not set, or something that is no link.
        StateUnavailable: it cannot be written.
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
        """Put everything in its place, with the broker's list of keys where there is one."""
        link = {
            "broker": reply.broker,
            "consumer": reply.consumer,
            "addresses": reply.addresses,
            "rate": reply.rate,
            "quota": reply.quota,
            "class": reply.draw_class,
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
                f"{self.directory}: {error}", hint="Check who may write there, and join anew."
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
        """Remove what was not finished."""
        with rights_of_owner(self.directory):
            shutil.rmtree(self._new, ignore_errors=True)


async def renew_if_due(
    upstream: Upstream, identity: LinkIdentity, now: float, *, force: bool = False
) -> bool:
    """Renew the certificate over a link to the broker when two thirds of its life are over.

    The key stays the same, and the broker prolongs the open session with it. Returns whether it was renewed.

    Raises:
        StateUnavailable: the files cannot be read or written.
        AuthenticationFailed: what came back is not a certificate for this machine.
        LinkUnavailable, PermissionRefused: as `Upstream.call`.
    """
    if not force and not identity.renewal_due(now):
        return False
    key_pem = read_secret(identity.key_path)
    try:
        csr = pki.csr_for(key_pem, identity.consumer)
    except ValueError as error:
        raise StateUnavailable(f"{identity.key_path}: {error}", hint=_JOIN_ANEW) from error
    result = await upstream.call("renew", {"csr": csr.decode()})
    certificate = str(result.get("certificate", "")).encode()
    authorities = read_file(identity.ca_path)
    listed = _listed_keys(identity, result, authorities)
    roots = "".join(listed.roots).encode() if listed else authorities
    check_certificate(certificate, key_pem, roots, identity.consumer)
    if listed:
        keys = "".join(key.public_key for key in listed.receipt_keys)
        replace_file(identity.receipt_key_path, keys.encode(), 0o644)
        replace_file(identity.ca_path, roots, 0o644)
        replace_file(os.path.join(identity.directory, KEYS), str(result["keys"]).encode(), 0o644)
    replace_file(identity.certificate_path, certificate, 0o644)
    return True


def known_keys(identity: LinkIdentity) -> KeyList | None:
    """Return the list of keys that came with the last renewal, None before the first.

    Raises:
        StateUnavailable: it is damaged.
    """
    path = os.path.join(identity.directory, KEYS)
    if not os.path.exists(path):
        return None
    try:
        return KeyList.read(read_file(path), read_file(identity.ca_path))
    except (ValueError, AuthenticationFailed) as error:
        raise StateUnavailable(f"{path}: {error}", hint=_JOIN_ANEW) from error


def _listed_keys(identity: LinkIdentity, result: Mapping[str, Any], authorities: bytes) -> KeyList | None:
    """Read the list of keys that came with a renewal, None from a broker of release 0.1.

    Raises:
        AuthenticationFailed: no authority that is pinned here signed it, or a newer list is known.
    """
    if "keys" not in result:
        return None
    try:
        listed = KeyList.read(str(result["keys"]).encode(), authorities)
    except ValueError as error:
        raise AuthenticationFailed(f"the broker's list of keys: {error}") from error
    known = known_keys(identity)
    if known and listed.time_s < known.time_s:
        raise AuthenticationFailed(
            "the broker sent an older list of its keys than this machine has",
            hint="Somebody may replay it, or the broker's state is a backup: ask its operator, or join again.",
        )
    return listed


async def rekey(
    identity: LinkIdentity, connect: Callable[[LinkIdentity], AbstractAsyncContextManager[Upstream]]
) -> LinkIdentity:
    """Replace this machine's key: both count until the new one has come into use.

    Args:
        identity: The identity with the present key.
        connect: Returns a link that shows an identity.

    Raises:
        StateUnavailable, AuthenticationFailed, LinkUnavailable, PermissionRefused: as `renew_if_due`.
    """
    authorities = read_file(identity.ca_path)
    staging = Staging(identity.directory, force=True)
    try:
        async with connect(identity) as link:
            result = await link.call("rekey", {"csr": staging.csr_pem.decode()})
        listed = _listed_keys(identity, result, authorities)
        if listed:
            authorities = "".join(listed.roots).encode()
        certificate = str(result.get("certificate", ""))
        check_certificate(certificate.encode(), staging.key_pem, authorities, identity.consumer)
        moved = staging.finish(_as_joined(identity, certificate, authorities), str(result.get("keys", "")))
    except BaseException:
        staging.discard()
        raise
    async with connect(moved) as link:
        await link.call("rekey", {"csr": pki.csr_for(staging.key_pem, identity.consumer).decode()})
    return moved


def _as_joined(identity: LinkIdentity, certificate: str, authorities: bytes) -> JoinReply:
    """Return what a broker would say to a machine that joins again with its present terms."""
    terms = json.loads(read_file(os.path.join(identity.directory, LINK)))
    return JoinReply(
        consumer=identity.consumer,
        certificate=certificate,
        ca_certificate=authorities.decode(),
        broker=identity.broker,
        addresses=identity.addresses,
        rate=str(terms.get("rate", "")),
        quota=str(terms.get("quota", "")),
        draw_class=str(terms.get("class", "")),
        receipt_public_key=read_file(identity.receipt_key_path).decode(),
    )


def check_certificate(certificate: bytes, key_pem: bytes, ca_certificate: bytes, consumer: str) -> None:
    """Return when a certificate is for that key, of that CA and names that consumer.

    Raises:
        AuthenticationFailed: it is not.
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
    """Does the chain, leaf first, lead to one of the authorities? Raises ValueError."""
    chain = pki.pem_blocks(certificate)
    signed = all(pki.is_issued_by(child, issuer) for child, issuer in pairwise(chain))
    return signed and any(pki.is_issued_by(chain[-1], ca) for ca in pki.pem_blocks(authorities))


def _check_replaceable(directory: str, *, force: bool) -> None:
    """Return when nothing is there, or an identity that may be replaced: never take away anything else."""
    if not os.path.lexists(directory):
        return
    if not os.path.exists(os.path.join(directory, LINK)):
        raise UsageError(f"{directory} is there, and no identity", hint="Take another --name or --dir.")
    if not force:
        raise UsageError(
            f"{directory} is there already", hint="Take another --name, or --force to replace that identity."
        )


def _facts(path: str) -> pki.CertificateFacts:
    try:
        return pki.read_certificate(read_file(path))
    except ValueError as error:
        raise StateUnavailable(f"{path}: {error}", hint=_JOIN_ANEW) from error
