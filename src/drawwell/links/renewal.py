"""Renewal of a consumer's certificate, with the lists of keys and brokers."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from drawwell.crypto import pki, tokens
from drawwell.crypto.hierarchy import KeyList
from drawwell.errors import AuthenticationFailed, DrawwellError, StateUnavailable
from drawwell.links.identity import (
    JOIN_AGAIN,
    KEYS,
    LINK,
    LinkIdentity,
    Staging,
    check_certificate,
)
from drawwell.ports import Upstream
from drawwell.state.files import read_file, read_secret, replace_file
from drawwell.wire.brokers import KnownBrokers
from drawwell.wire.enrolment import JoinReply

log = logging.getLogger(__name__)


async def renew_if_due(
    upstream: Upstream, identity: LinkIdentity, now: float, *, force: bool = False
) -> bool:
    """Renew the certificate after two thirds of its lifetime, over a link.

    The key stays the same, and the broker extends the open session. Returns whether the
    certificate was renewed.

    Raises:
        StateUnavailable: the files cannot be read or written.
        AuthenticationFailed: the broker's answer is not a certificate for this machine.
        LinkUnavailable, PermissionRefused: see `Upstream.call`.
    """
    if not force and not identity.renewal_due(now):
        return False
    key_pem = read_secret(identity.key_path)
    try:
        csr = pki.csr_for(key_pem, identity.consumer)
    except ValueError as error:
        raise StateUnavailable(f"{identity.key_path}: {error}", hint=JOIN_AGAIN) from error
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
    await _learn_brokers(upstream, identity)
    return True


async def _learn_brokers(upstream: Upstream, identity: LinkIdentity) -> None:
    """Store the list of brokers; earlier brokers stay, at the end.

    The list needs no signature, because only the fleet's brokers have a certificate with the
    fleet's name.
    """
    try:
        found = KnownBrokers.read(await upstream.call("brokers", {}))
        for address in (address for broker in found.brokers for address in broker.addresses):
            tokens.parse_address(address)
    except (DrawwellError, ValueError) as error:  # a broker of release 0.1, or a temporary error
        log.info("%s did not send a list of brokers: %s", upstream.name, error)
        return
    path = os.path.join(identity.directory, LINK)
    link = json.loads(read_file(path)) | found.over(identity.known.brokers).document()
    replace_file(path, json.dumps(link, indent=2).encode() + b"\n", 0o644)


def known_keys(identity: LinkIdentity) -> KeyList | None:
    """Return the list of keys from the last renewal, or None before the first.

    Raises:
        StateUnavailable: the list is damaged.
    """
    path = os.path.join(identity.directory, KEYS)
    if not os.path.exists(path):
        return None
    try:
        return KeyList.read(read_file(path), read_file(identity.ca_path))
    except (ValueError, AuthenticationFailed) as error:
        raise StateUnavailable(f"{path}: {error}", hint=JOIN_AGAIN) from error


def _listed_keys(identity: LinkIdentity, result: Mapping[str, Any], authorities: bytes) -> KeyList | None:
    """Parse the list of keys in a renewal; return None if it is not newer.

    Raises:
        AuthenticationFailed: no pinned CA signed the list, or it is older and the broker
            is not in a fleet.
    """
    if "keys" not in result:
        return None
    try:
        listed = KeyList.read(str(result["keys"]).encode(), authorities)
    except ValueError as error:
        raise AuthenticationFailed(f"the broker's list of keys is invalid: {error}") from error
    known = known_keys(identity)
    if known and listed.time_s < known.time_s:
        if identity.known.fleet:  # this broker has not read the newer list yet
            return None
        raise AuthenticationFailed(
            "the broker's list of keys is older than the one on this machine",
            hint="It is a replay, or the broker was restored from a backup. Join again, or ask the operator.",
        )
    return listed


async def rekey(
    identity: LinkIdentity, connect: Callable[[LinkIdentity], AbstractAsyncContextManager[Upstream]]
) -> LinkIdentity:
    """Replace this machine's key; both keys work until the new key is used.

    Args:
        identity: The identity with the present key.
        connect: Returns a link that authenticates with an identity.

    Raises:
        StateUnavailable, AuthenticationFailed, LinkUnavailable, PermissionRefused: see
            `renew_if_due`.
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
        moved = staging.finish(
            _as_joined(identity, certificate, authorities), str(result["keys"]) if listed else ""
        )
    except BaseException:
        staging.discard()
        raise
    async with connect(moved) as link:
        await link.call("rekey", {"csr": pki.csr_for(staging.key_pem, identity.consumer).decode()})
    return moved


def _as_joined(identity: LinkIdentity, certificate: str, authorities: bytes) -> JoinReply:
    """Return a join reply with the machine's present terms."""
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
        known=identity.known,
    )
