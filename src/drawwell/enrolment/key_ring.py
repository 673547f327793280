"""A broker's keys: root CA, intermediate CA and receipt key."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Self

from drawwell.crypto import pki
from drawwell.crypto.audit_chain import HEAD_FORMAT
from drawwell.crypto.hierarchy import (
    KeyList,
    PublicKeys,
    ReceiptKey,
    certify_request,
    new_intermediate,
)
from drawwell.crypto.receipt_form import FORMAT
from drawwell.crypto.receipts import ReceiptSigner, public_key_id
from drawwell.enrolment.ca import SigningKeys
from drawwell.enrolment.key_files import (
    INTERMEDIATE,
    NEXT_ROOT,
    ROOT,
    earlier_cas,
    is_pair,
    load_pair,
    write_adopted,
)
from drawwell.enrolment.ring_files import LIST, RingFiles
from drawwell.errors import AuthenticationFailed, StateUnavailable, UsageError
from drawwell.state.files import read_file, replace_file

_FOLLOW_S: Final = 120.0
"""How long a replaced receipt key still signs; brokers learn of the new key in a minute."""
_RECEIPT, _HEAD = (f'"format":"{name}"'.encode() for name in (FORMAT, HEAD_FORMAT))


class KeyRing(RingFiles, SigningKeys):
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
        super().__init__(directory, name, now, receipt_key)
        self._lock = threading.RLock()
        self._replaced: tuple[ReceiptSigner, float] | None = None
        """The receipt key before a rotation, and the time after which it is not used."""
        self._awaited = b""
        """A list whose first root has not certified this broker yet."""
        self._unfinished: set[str] = set()
        """The rotations that failed."""

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
            earlier = "".join(earlier_cas(self._directory)).encode()
            authorities = roots + self._intermediate.certificate_pem + earlier
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
            if self._root.certificate_pem != root and self._root.key_pem:
                self._forget_root_keys()
                self._forget_next_root()
            self._intermediate = self._save(INTERMEDIATE, pair)
            self._install(key_list, root)

    def take(self, certificate: bytes) -> None:
        """Install a newer certificate; same errors as `adopt_certificate`."""
        with self._lock:
            key_list = self._awaited or read_file(self._path(LIST))
            root, present = self._listed(key_list).roots[0].encode(), self._intermediate.certificate_pem
            if pki.is_issued_by(present, root):
                is_old = _end(certificate) <= _end(present)
            else:
                is_old = not pki.is_issued_by(certificate, root)
            if not is_old:
                self.adopt_certificate(certificate, key_list, root)

    def follow(self, key_list: bytes) -> None:
        """Install a newer list of keys; same errors as `adopt_certificate`.

        A list with another root waits until this root has certified the broker (`take`).
        Until then, consumers could not verify the broker with the new list.
        """
        with self._lock:
            known = self._list()
            listed = KeyList.read(key_list, "".join(known.roots).encode())
            if listed.time_s <= known.time_s:
                return
            root = listed.roots[0].encode()
            if root != self._root.certificate_pem:
                self._keep_root(listed.time_s)
            if pki.is_issued_by(self._intermediate.certificate_pem, root):
                self._install(key_list, root)
            else:
                self._awaited = key_list

    def _install(self, key_list: bytes, root: bytes) -> None:
        replace_file(self._path(LIST), key_list)
        self._install_root(root)
        self._awaited = b""

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
            try:
                following = change(now)
            except StateUnavailable:
                self._unfinished.add(what)
                raise
            self._unfinished.discard(what)
            return following

    def export_root(self) -> bytes:
        """Return the private keys of the root and the next root (PEM).

        Raises:
            UsageError: the root's key is not here, or a rotation that needs it has failed.
        """
        self.require_root_key()
        for what in sorted(self._unfinished):
            raise UsageError(
                f"the rotation of {what} has failed, and the root's key is needed to finish it",
                hint=f"Run 'drawwell pki rotate {what}' again first.",
            )
        return b"".join(root.key_pem for root in self._roots())

    def forget_root(self) -> None:
        """Remove the private keys of the roots from this machine."""
        with self._lock:
            self._forget_root_keys()

    def import_root(self, key_pem: bytes, now: float) -> None:
        """Store the roots' private keys again; renew the intermediate CA if due.

        Raises:
            UsageError: it is not the key of this root.
        """
        pairs = [
            (what, pki.KeyPair(root.certificate_pem, key))
            for what, root in zip((ROOT, NEXT_ROOT), self._roots(), strict=False)
            for key in pki.pem_blocks(key_pem)
        ]
        found = {what: pair for what, pair in pairs if is_pair(pair)}
        if ROOT not in found:
            raise UsageError(
                "this is not the root's key", hint="Use the file that 'drawwell pki export-root' wrote."
            )
        with self._lock:
            for what, pair in found.items():
                replace_file(self._path(f"{what}-key.pem"), pair.key_pem)
            self._root = found[ROOT]
            self._current(now)
            self._list_keys(now)

    def describe(self, now: float) -> dict[str, object]:
        """Return the keys' fingerprints and expiry, and whether the root is here."""
        return {
            "root": _fingerprint(self._root),
            "root_key_is_here": bool(self._root.key_pem),
            "root_expires": pki.read_certificate(self._root.certificate_pem).not_after,
            "next_root": _fingerprint(pair) if (pair := load_pair(self._directory, NEXT_ROOT)) else "",
            "intermediate": _fingerprint(self._intermediate),
            "intermediate_expires": pki.read_certificate(self._intermediate.certificate_pem).not_after,
            "intermediate_is_due": bool(self._awaited)
            or pki.renewal_due(self._intermediate.certificate_pem, now),
            "receipt_key": self._receipts.key_id,
            "earlier_receipt_keys": sum(1 for key in self._list().receipt_keys if key.until),
        }

    # ---- inside ------------------------------------------------------------

    def _current(self, now: float) -> pki.KeyPair:
        """Return the intermediate CA, renewed if due.

        Raises:
            StateUnavailable: the CA has expired, and the root's key is not here.
        """
        if self._root.key_pem and pki.read_certificate(self._root.certificate_pem).not_before > now:
            self._root = self._save(ROOT, pki.recertify_ca(self._root, now))
            self._recertify(self._root, now)
            self._publish(now, self._roots())
        elif self._root.key_pem and pki.renewal_due(self._intermediate.certificate_pem, now):
            self._recertify(self._root, now)
        if pki.read_certificate(self._intermediate.certificate_pem).not_after <= now:
            raise StateUnavailable(
                "the intermediate CA has expired, and the root's key, which renews it, is not on this machine",
                hint="Run 'drawwell pki import-root FILE' on the machine of the root's signer.",
            )
        return self._intermediate

    def _rotate_intermediate(self, now: float) -> str:
        self._keep_intermediate()
        self._intermediate = self._save(INTERMEDIATE, new_intermediate(self._root, self._name, now))
        return "consumers switch at their next renewal; the old CA's certificate is valid until it expires"

    def _rotate_receipts(self, now: float) -> str:
        former, new = self._receipts, self._new_receipt_key()
        ended = self._list().with_ended(former.public_key.decode(), now)
        self._publish(now, self._roots(), (ReceiptKey(new.public_key.decode(), int(now)), *ended))
        self._receipts, self._replaced = new, (former, time.monotonic() + _FOLLOW_S)
        return "receipts signed by the old key can still be verified: the list of keys contains the old key"

    def _rotate_root(self, now: float) -> str:
        """Announce a new root to consumers, while the current root stays in use."""
        if load_pair(self._directory, NEXT_ROOT) is None:
            self._save(NEXT_ROOT, pki.new_ca(self._name, now))
        self._publish(now, self._roots())
        return "run 'drawwell pki rotate finish-root' when every consumer has renewed, in 7 days or more"

    def _finish_root(self, now: float) -> str:
        """Switch to the next root; write the list before the root's own files.

        Once the new list is written, opening the files finishes the change.
        """
        following = load_pair(self._directory, NEXT_ROOT)
        if following is None or following.certificate_pem.decode() not in self._list().roots:
            raise UsageError("there is no next root", hint="Run 'drawwell pki rotate root' first.")
        if not following.key_pem:
            raise UsageError(
                "the next root's key is not on this machine",
                hint="Run 'drawwell pki import-root FILE' with the file of the last 'drawwell pki export-root'.",
            )
        self._keep_root(now)
        self._recertify(following, now)
        self._publish(now, (following,))
        self._root = self._save(ROOT, following)
        self._forget_next_root()
        return "from their next renewal on, consumers no longer trust the old root"


def _end(certificate: bytes) -> float:
    return pki.read_certificate(certificate).not_after


def _fingerprint(pair: pki.KeyPair) -> str:
    return pki.spki_sha256(pair.certificate_pem).hex()
