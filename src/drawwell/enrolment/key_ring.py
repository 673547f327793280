"""A broker's keys on disk: root CA, intermediate CA and receipt key.

root.pem intermediate.pem       certificates, each with NAME-key.pem (mode 0600)
next-root.pem                   the next root, which consumers learn before it is used
earlier.pem                     replaced intermediate CAs whose certificates may be in use
receipt-key.pem                 the key that signs receipts and heads of the audit log
keys.json                       the list of keys for consumers (crypto/hierarchy.py)
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final, Self

from drawwell.crypto import pki
from drawwell.crypto.audit_chain import HEAD_FORMAT
from drawwell.crypto.hierarchy import (
    MOST_KEYS,
    KeyList,
    PublicKeys,
    ReceiptKey,
    certify_intermediate,
    certify_request,
    new_intermediate,
)
from drawwell.crypto.receipt_form import FORMAT
from drawwell.crypto.receipts import ReceiptSigner, public_key_id, receipt_key_from_seed
from drawwell.enrolment.ca import SigningKeys
from drawwell.enrolment.key_files import (
    CA_OF_0_1,
    INTERMEDIATE,
    NEXT_ROOT,
    RECEIPT_KEY,
    ROOT,
    damaged,
    is_pair,
    load_pair,
    read_receipt_key,
    write_adopted,
)
from drawwell.errors import AuthenticationFailed, StateUnavailable, UsageError
from drawwell.ownership import rights_of_owner
from drawwell.state.files import make_private_directory, read_file, replace_file

LIST: Final = "keys.json"
_EARLIER: Final = "earlier.pem"
_LEAVES_LIVE_S: Final = pki.CLIENT_LIFETIME_S + 30 * pki.DAY_S
"""How long certificates can still be renewed after their intermediate CA expires."""
_FOLLOW_S: Final = 120.0
"""How long a replaced receipt key still signs; brokers learn of the new key in a minute."""
CLOCK_IS_SET_S: Final = 1_672_531_200.0
"""2023-01-01, before this program existed: a clock that shows an earlier time is not set."""
_RECEIPT, _HEAD = (f'"format":"{name}"'.encode() for name in (FORMAT, HEAD_FORMAT))


class KeyRing(SigningKeys):
    """The keys in a directory, created if missing. Any thread can use them.

    The CA of release 0.1 becomes the first intermediate CA, with the same key and name. So
    consumers that have pinned it still trust the certificates that it issues.

    Args:
        directory: The directory of the files.
        name: The broker's name, for the CAs' subjects.
        now: The time in seconds since 1970, as in all methods.
        receipt_key: The path of the receipt key, if it is not in `directory`.

    Raises:
        StateUnavailable: files cannot be read, written or parsed, or do not match.
    """

    def __init__(self, directory: str, name: str, now: float, receipt_key: str = "") -> None:
        self._directory, self._name, self._lock = directory, name, threading.RLock()
        self._receipt_path = receipt_key or self._path(RECEIPT_KEY)
        make_private_directory(directory)
        root, intermediate = load_pair(self._directory, ROOT), load_pair(self._directory, INTERMEDIATE)
        if (root is None or intermediate is None) and now < CLOCK_IS_SET_S:
            raise StateUnavailable(
                "this machine's clock is not set, so the CA cannot be created",
                hint="Set the clock and restart.",
            )
        self._root = root or self._save(ROOT, pki.new_ca(name, now))
        self._intermediate = intermediate or self._save(INTERMEDIATE, self._first_intermediate(now))
        self._receipts = self._load_receipt_key()
        self._replaced: tuple[ReceiptSigner, float] | None = None
        """The receipt key before a rotation, and the time after which it is not used."""
        if not os.path.exists(self._path(LIST)):
            self._publish(now, (self._root,), (self._present_key(now),))
        for kind in ("-key.pem", ".pem"):
            self._forget(CA_OF_0_1 + kind)

    @classmethod
    def adopt(cls, directory: str, name: str, now: float, keys: Mapping[str, str]) -> Self:
        """Take over the keys of a broker that had them in its own process.

        `keys` contains that broker's CA and receipt key in PEM, "" for a missing key.

        Raises:
            ValueError: a key is invalid or does not match.
            StateUnavailable: see the constructor.
        """
        write_adopted(directory, keys)
        return cls(directory, name, now)

    def public(self) -> PublicKeys:
        """Return the public keys; see `SigningKeys.public`."""
        with self._lock:
            document = read_file(self._path(LIST))
            roots = "".join(self._listed(document).roots).encode()
            authorities = roots + self._intermediate.certificate_pem + self._earlier()
            return PublicKeys(roots, authorities, self._receipts.public_key, document)

    def certify(self, csr_pem: bytes, consumer: str, now: float) -> bytes:
        """Issue a consumer's certificate chain; same errors as `pki.issue_client`."""
        with self._lock:
            ca = self._current(now)
        return pki.issue_client(ca, csr_pem, consumer, now) + ca.certificate_pem

    def serve(self, csr_pem: bytes, names: Sequence[str], now: float) -> bytes:
        """Issue a server's certificate chain; same errors as `pki.issue_server`."""
        with self._lock:
            ca = self._current(now)
        return pki.issue_server(ca, csr_pem, names, now) + ca.certificate_pem + self._root.certificate_pem

    def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """Sign bodies of receipts and heads of the audit log, and no other texts.

        Raises:
            ValueError: a text is neither a body nor a head, or contains another key's ID.
        """
        return [self._signer_of(text).sign_text(text) for text in texts]

    def _signer_of(self, text: bytes) -> ReceiptSigner:
        """Return the key with the text's key ID; for a head, the current key."""
        if _HEAD in text:
            return self._receipts
        signers = [self._receipts]
        if self._replaced and time.monotonic() < self._replaced[1]:
            signers.append(self._replaced[0])
        for signer in signers:
            if _RECEIPT in text and f'"key_id":"{signer.key_id}"'.encode() in text:
                return signer
        raise ValueError("the text is neither an audit head nor a receipt for the current key")

    # ---- for a fleet ------------------------------------------------------------------

    @property
    def holds_root(self) -> bool:
        return bool(self._root.key_pem)

    def request(self) -> tuple[bytes, bytes]:
        """Return a signing request for the intermediate CA, and the receipt key."""
        return pki.csr_for(self._intermediate.key_pem, self._name), self._receipts.public_key

    def certify_broker(self, broker: str, csr_pem: bytes, receipt_key: bytes, now: float) -> bytes:
        """Certify another broker's CA; list its receipt key if one is given.

        Raises the same errors as `rotate`, and ValueError for an invalid request or key.
        """
        with self._lock:
            self.require_root_key()
            certificate = certify_request(self._root, broker, csr_pem, now)
            if receipt_key:
                public_key_id(receipt_key)
                self._publish(now, self._roots(), self._list().with_signing(receipt_key.decode(), now))
        return certificate

    def end_receipt_key(self, public_key: str, now: float) -> None:
        """End another broker's receipt key; same errors as `rotate`."""
        with self._lock:
            self.require_root_key()
            self._publish(now, self._roots(), self._list().with_ended(public_key, now))

    def adopt_certificate(self, certificate: bytes, key_list: bytes, root: bytes) -> None:
        """Become a broker of a fleet. The root's key is on another machine.

        Raises:
            AuthenticationFailed: the root did not sign the certificate and the list, or they
                are for other keys.
            ValueError: the certificate, list or root cannot be parsed.
        """
        with self._lock:
            pair = replace(self._intermediate, certificate_pem=certificate)
            listed = KeyList.read(key_list, root)
            own = self._receipts.public_key.decode()
            is_listed = own in {key.public_key for key in listed.receipt_keys}
            if not (is_listed and is_pair(pair) and pki.is_issued_by(certificate, root)):
                raise AuthenticationFailed("the fleet's answer does not match this broker's keys")
            if self._root.certificate_pem != root:
                self._forget(f"{ROOT}-key.pem")
                replace_file(self._path(f"{ROOT}.pem"), root)
                self._root = pki.KeyPair(root, b"")
            self._intermediate = self._save(INTERMEDIATE, pair)
            replace_file(self._path(LIST), key_list)

    def follow(self, key_list: bytes) -> None:
        """Install a newer list of keys; same errors as `adopt_certificate`."""
        with self._lock:
            listed = KeyList.read(key_list, self._root.certificate_pem)
            if listed.time_s > self._list().time_s:
                replace_file(self._path(LIST), key_list)

    # ---- for the operator ------------------------------------------------------------

    def rotate(self, what: str, now: float) -> str:
        """Replace a key; return a sentence about what happens next.

        `what` is ``root``, ``finish-root``, ``intermediate`` or ``receipts``.

        Raises:
            UsageError: the name is unknown, or the root's key is not here.
        """
        change = {
            "root": self._rotate_root,
            "finish-root": self._finish_root,
            "intermediate": self._rotate_intermediate,
            "receipts": self._rotate_receipts,
        }.get(what)
        if change is None:
            raise UsageError(f"unknown key {what!r}", hint="Use root, intermediate or receipts.")
        with self._lock:
            self.require_root_key()
            return change(now)

    def export_root(self) -> bytes:
        """Return the root's private key (PEM); same errors as `rotate`."""
        self.require_root_key()
        return self._root.key_pem

    def forget_root(self) -> None:
        """Remove the root's private key from this machine."""
        with self._lock:
            self._forget(f"{ROOT}-key.pem")
            self._root = pki.KeyPair(self._root.certificate_pem, b"")

    def import_root(self, key_pem: bytes, now: float) -> None:
        """Store the root's private key again; renew the intermediate CA if due.

        Raises:
            UsageError: it is not the key of this root.
        """
        pair = pki.KeyPair(self._root.certificate_pem, key_pem)
        if not is_pair(pair):
            raise UsageError(
                "this is not the root's key", hint="Use the file that 'drawwell pki export-root' wrote."
            )
        with self._lock:
            replace_file(self._path(f"{ROOT}-key.pem"), key_pem)
            self._root = pair
            self._current(now)

    def describe(self, now: float) -> dict[str, object]:
        """Return the keys' fingerprints and expiry, and whether the root is here."""
        return {
            "root": _fingerprint(self._root),
            "root_key_is_here": bool(self._root.key_pem),
            "root_expires": pki.read_certificate(self._root.certificate_pem).not_after,
            "next_root": _fingerprint(pair) if (pair := load_pair(self._directory, NEXT_ROOT)) else "",
            "intermediate": _fingerprint(self._intermediate),
            "intermediate_expires": pki.read_certificate(self._intermediate.certificate_pem).not_after,
            "intermediate_is_due": pki.renewal_due(self._intermediate.certificate_pem, now),
            "receipt_key": self._receipts.key_id,
            "earlier_receipt_keys": sum(1 for key in self._list().receipt_keys if key.until),
        }

    # ---- inside ------------------------------------------------------------

    def _first_intermediate(self, now: float) -> pki.KeyPair:
        """Certify the CA of release 0.1 if it exists, else a new intermediate CA."""
        first = load_pair(self._directory, CA_OF_0_1)
        if first is None:
            return new_intermediate(self._root, self._name, now)
        title = pki.read_certificate(first.certificate_pem).common_name
        return certify_intermediate(self._root, title, first.key_pem, now)

    def _current(self, now: float) -> pki.KeyPair:
        """Return the intermediate CA, renewed if due.

        Raises:
            StateUnavailable: the CA has expired, and the root's key is not here.
        """
        if self._root.key_pem and pki.read_certificate(self._root.certificate_pem).not_before > now:
            self._root = self._save(ROOT, pki.recertify_ca(self._root, now))
            self._recertify(now)
            self._publish(now, (self._root,))
        elif self._root.key_pem and pki.renewal_due(self._intermediate.certificate_pem, now):
            self._recertify(now)
        if pki.read_certificate(self._intermediate.certificate_pem).not_after <= now:
            raise StateUnavailable(
                "the intermediate CA has expired, and the root's key, which renews it, is not on this machine",
                hint="Run 'drawwell pki import-root FILE' on the machine of the root's signer.",
            )
        return self._intermediate

    def _recertify(self, now: float) -> None:
        title = pki.read_certificate(self._intermediate.certificate_pem).common_name
        renewed = certify_intermediate(self._root, title, self._intermediate.key_pem, now)
        self._intermediate = self._save(INTERMEDIATE, renewed)

    def _rotate_intermediate(self, now: float) -> str:
        earlier = self._earlier()
        kept = [
            ca
            for ca in (self._intermediate.certificate_pem, *(pki.pem_blocks(earlier) if earlier else ()))
            if pki.read_certificate(ca).not_after + _LEAVES_LIVE_S > now
        ]
        replace_file(self._path(_EARLIER), b"".join(kept))
        self._intermediate = self._save(INTERMEDIATE, new_intermediate(self._root, self._name, now))
        return "consumers switch at their next renewal; the old CA's certificate is valid until it expires"

    def _rotate_receipts(self, now: float) -> str:
        ended = self._list().with_ended(self._receipts.public_key.decode(), now)
        self._replaced = self._receipts, time.monotonic() + _FOLLOW_S
        replace_file(self._receipt_path, receipt_key_from_seed(os.urandom(32)))
        self._receipts = self._load_receipt_key()
        self._publish(now, self._roots(), (self._present_key(now), *ended))
        return "receipts signed by the old key can still be verified: the list of keys contains the old key"

    def _rotate_root(self, now: float) -> str:
        """Announce a new root to consumers, while the current root stays in use."""
        following = load_pair(self._directory, NEXT_ROOT) or self._save(
            NEXT_ROOT, pki.new_ca(self._name, now)
        )
        self._publish(now, (self._root, following))
        return "run 'drawwell pki rotate finish-root' when every consumer has renewed, in 7 days or more"

    def _finish_root(self, now: float) -> str:
        following = load_pair(self._directory, NEXT_ROOT)
        if following is None or not following.key_pem:
            raise UsageError("there is no next root", hint="Run 'drawwell pki rotate root' first.")
        self._publish(now, (following,))
        self._root = self._save(ROOT, following)
        self._recertify(now)
        for kind in (".pem", "-key.pem"):
            self._forget(NEXT_ROOT + kind)
        return "from their next renewal on, consumers no longer trust the old root"

    def _publish(
        self, now: float, roots: Sequence[pki.KeyPair], keys: tuple[ReceiptKey, ...] | None = None
    ) -> None:
        """Write the list of keys, signed by the roots and by the intermediate CA.

        Consumers of release 0.1 have pinned the intermediate CA and need its signature.
        """
        keys = self._list().receipt_keys if keys is None else keys
        pems = tuple(pair.certificate_pem.decode() for pair in roots)
        signers = {pair.key_pem: pair for pair in (*roots, self._root, self._intermediate) if pair.key_pem}
        listed = KeyList(self._name, int(now), pems, keys[:MOST_KEYS])
        replace_file(self._path(LIST), listed.sign(signers.values()))

    def _present_key(self, now: float) -> ReceiptKey:
        return ReceiptKey(self._receipts.public_key.decode(), int(now))

    def _roots(self) -> tuple[pki.KeyPair, ...]:
        following = load_pair(self._directory, NEXT_ROOT)
        return (self._root, following) if following else (self._root,)

    def _list(self) -> KeyList:
        return self._listed(read_file(self._path(LIST)))

    def _listed(self, document: bytes) -> KeyList:
        try:
            return KeyList.read(document, self._root.certificate_pem)
        except ValueError as error:
            raise damaged(self._directory, LIST, str(error)) from error

    def require_root_key(self) -> None:
        """Raise UsageError, with a hint, if the root's key is elsewhere."""
        if not self._root.key_pem:
            raise UsageError(
                "the root's key is not on this machine", hint="Run 'drawwell pki import-root FILE' first."
            )

    def _earlier(self) -> bytes:
        path = self._path(_EARLIER)
        return read_file(path) if os.path.exists(path) else b""

    def _load_receipt_key(self) -> ReceiptSigner:
        if not os.path.exists(self._receipt_path):
            replace_file(self._receipt_path, receipt_key_from_seed(os.urandom(32)))
        return read_receipt_key(self._receipt_path)

    def _save(self, what: str, pair: pki.KeyPair) -> pki.KeyPair:
        replace_file(self._path(f"{what}-key.pem"), pair.key_pem)
        replace_file(self._path(f"{what}.pem"), pair.certificate_pem)
        return pair

    def _forget(self, file: str) -> None:
        with rights_of_owner(self._directory), suppress(FileNotFoundError):
            os.unlink(self._path(file))

    def _path(self, file: str) -> str:
        return os.path.join(self._directory, file)


def _fingerprint(pair: pki.KeyPair) -> str:
    return pki.spki_sha256(pair.certificate_pem).hex()
