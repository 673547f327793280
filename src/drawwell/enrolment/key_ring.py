"""A broker's keys on disk: root and intermediate CA, and receipts.

root.pem intermediate.pem       certificates, each with NAME-key.pem (mode 0600)
next-root.pem                   a root that consumers learn, before it replaces the root
earlier.pem                     intermediate CAs that were replaced, while their leaves live
receipt-key.pem                 signs receipts and the audit log's heads
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
    KeyList,
    PublicKeys,
    ReceiptKey,
    certify_intermediate,
    new_intermediate,
)
from drawwell.crypto.receipt_form import FORMAT
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed
from drawwell.errors import StateUnavailable, UsageError
from drawwell.ownership import rights_of_owner
from drawwell.state.files import make_private_directory, read_file, read_secret, replace_file

ROOT: Final = "root"
NEXT_ROOT: Final = "next-root"
INTERMEDIATE: Final = "intermediate"
RECEIPT_KEY: Final = "receipt-key.pem"
LIST: Final = "keys.json"
_EARLIER: Final = "earlier.pem"
_CA_OF_0_1: Final = "ca"
_LEAVES_LIVE_S: Final = pki.CLIENT_LIFETIME_S + 30 * pki.DAY_S
"""So long after its end an intermediate CA's leaves may still renew."""
_FOLLOW_S: Final = 120.0
"""A broker follows within a minute."""
CLOCK_IS_SET_S: Final = 1_672_531_200.0
"""2023-01-01: older than this program, so a clock before it was never set."""
_RECEIPT, _HEAD = (f'"format":"{name}"'.encode() for name in (FORMAT, HEAD_FORMAT))


class KeyRing:
    """The keys in a directory, made when they are not there; any thread.

    The CA of release 0.1 becomes the first intermediate CA, with the same key and name. So
    consumers that pinned it believe its leaves.

    Args:
        directory: Holds the files.
        name: The broker's name, for the CAs' subjects.
        now: Seconds since 1970, as in all methods.
        receipt_key: The path of the receipt key, where it is not in `directory`.

    Raises:
        StateUnavailable: files that cannot be read, written or parsed, or that do not match.
    """

    def __init__(self, directory: str, name: str, now: float, receipt_key: str = "") -> None:
        self._directory, self._name, self._lock = directory, name, threading.RLock()
        self._receipt_path = receipt_key or self._path(RECEIPT_KEY)
        make_private_directory(directory)
        root, intermediate = self._load(ROOT), self._load(INTERMEDIATE)
        if (root is None or intermediate is None) and now < CLOCK_IS_SET_S:
            raise StateUnavailable(
                "this machine's clock is not set, so no authority is made",
                hint="Set the clock and start again.",
            )
        self._root = root or self._save(ROOT, pki.new_ca(name, now))
        self._intermediate = intermediate or self._save(INTERMEDIATE, self._first_intermediate(now))
        self._receipts = self._load_receipt_key()
        self._replaced: tuple[ReceiptSigner, float] | None = None
        """The receipt key before a rotation, and how long a broker may still name it."""
        if not os.path.exists(self._path(LIST)):
            self._publish(now, (self._root,))
        for kind in ("-key.pem", ".pem"):
            self._forget(_CA_OF_0_1 + kind)

    @classmethod
    def adopt(cls, directory: str, name: str, now: float, keys: Mapping[str, str]) -> Self:
        """Begin with the keys of a broker that held them itself.

        `keys` are its CA and its receipt key, PEM, "" for none.

        Raises:
            ValueError: one is not what it should be.
            StateUnavailable: as the constructor.
        """
        certificate, ca_key, receipt_key = (
            keys[each].encode() for each in ("ca_certificate", "ca_key", "receipt_key")
        )
        if ca_key and not _is_pair(pki.KeyPair(certificate, ca_key)):
            raise ValueError("it is not the key of that CA")
        if receipt_key:
            ReceiptSigner(receipt_key)
        make_private_directory(directory)
        if ca_key:
            replace_file(os.path.join(directory, f"{_CA_OF_0_1}-key.pem"), ca_key)
            replace_file(os.path.join(directory, f"{_CA_OF_0_1}.pem"), certificate)
        if receipt_key:
            replace_file(os.path.join(directory, RECEIPT_KEY), receipt_key)
        return cls(directory, name, now)

    def require(self) -> None:
        """See SigningKeys: it always can."""

    def public(self) -> PublicKeys:
        """See SigningKeys."""
        with self._lock:
            document = read_file(self._path(LIST))
            roots = "".join(self._listed(document).roots).encode()
            authorities = roots + self._intermediate.certificate_pem + self._earlier()
            return PublicKeys(roots, authorities, self._receipts.public_key, document)

    def certify(self, csr_pem: bytes, consumer: str, now: float) -> bytes:
        """See SigningKeys; raises as `pki.issue_client`."""
        with self._lock:
            ca = self._current(now)
        return pki.issue_client(ca, csr_pem, consumer, now) + ca.certificate_pem

    def serve(self, csr_pem: bytes, names: Sequence[str], now: float) -> bytes:
        """See SigningKeys; raises as `pki.issue_server`."""
        with self._lock:
            ca = self._current(now)
        return pki.issue_server(ca, csr_pem, names, now) + ca.certificate_pem + self._root.certificate_pem

    def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """Sign bodies of receipts and heads of the audit log, and no other texts.

        Raises:
            ValueError: one is neither, or names another key.
        """
        return [self._signer_of(text).sign_text(text) for text in texts]

    def _signer_of(self, text: bytes) -> ReceiptSigner:
        """Return the key that a text names, or the present one for an audit head."""
        if _HEAD in text:
            return self._receipts
        signers = [self._receipts]
        if self._replaced and time.monotonic() < self._replaced[1]:
            signers.append(self._replaced[0])
        for signer in signers:
            if _RECEIPT in text and f'"key_id":"{signer.key_id}"'.encode() in text:
                return signer
        raise ValueError("it is no audit head, and no receipt of the present key")

    # ---- for the operator ------------------------------------------------------------

    def rotate(self, what: str, now: float) -> str:
        """Replace a key, and return what to do next.

        `what` is ``root``, ``finish-root``, ``intermediate`` or ``receipts``.

        Raises:
            UsageError: no such key, or the root's key is not here.
        """
        change = {
            "root": self._rotate_root,
            "finish-root": self._finish_root,
            "intermediate": self._rotate_intermediate,
            "receipts": self._rotate_receipts,
        }.get(what)
        if change is None:
            raise UsageError(f"no key is called {what!r}", hint="Name root, intermediate or receipts.")
        with self._lock:
            self._require_root_key()
            return change(now)

    def export_root(self) -> bytes:
        """Return the root's private key (PEM); raises as `rotate`."""
        self._require_root_key()
        return self._root.key_pem

    def forget_root(self) -> None:
        """Remove the root's private key from this machine."""
        with self._lock:
            self._forget(f"{ROOT}-key.pem")
            self._root = pki.KeyPair(self._root.certificate_pem, b"")

    def import_root(self, key_pem: bytes, now: float) -> None:
        """Take back the root's private key; renew the intermediate CA if due.

        Raises:
            UsageError: it is not the key of this root.
        """
        pair = pki.KeyPair(self._root.certificate_pem, key_pem)
        if not _is_pair(pair):
            raise UsageError(
                "this is not the key of the root", hint="Name the file that 'pki export-root' wrote."
            )
        with self._lock:
            replace_file(self._path(f"{ROOT}-key.pem"), key_pem)
            self._root = pair
            self._current(now)

    def describe(self, now: float) -> dict[str, object]:
        """Return the keys, their ends, and whether the root's key is here."""
        listed = self._listed(read_file(self._path(LIST)))
        return {
            "root": self._fingerprint(self._root),
            "root_key_is_here": bool(self._root.key_pem),
            "root_expires": pki.read_certificate(self._root.certificate_pem).not_after,
            "next_root": self._fingerprint(pair) if (pair := self._load(NEXT_ROOT)) else "",
            "intermediate": self._fingerprint(self._intermediate),
            "intermediate_expires": pki.read_certificate(self._intermediate.certificate_pem).not_after,
            "intermediate_is_due": pki.renewal_due(self._intermediate.certificate_pem, now),
            "receipt_key": self._receipts.key_id,
            "earlier_receipt_keys": sum(1 for key in listed.receipt_keys if key.until),
        }

    # ---- inside ------------------------------------------------------------

    def _first_intermediate(self, now: float) -> pki.KeyPair:
        """Certify the CA of release 0.1, where there is one, or make a new one."""
        first = self._load(_CA_OF_0_1)
        if first is None:
            return new_intermediate(self._root, self._name, now)
        title = pki.read_certificate(first.certificate_pem).common_name
        return certify_intermediate(self._root, title, first.key_pem, now)

    def _current(self, now: float) -> pki.KeyPair:
        """Return the intermediate CA, certified again where that is due.

        Raises:
            StateUnavailable: it has ended, and the root's key is away.
        """
        if self._root.key_pem and pki.read_certificate(self._root.certificate_pem).not_before > now:
            self._root = self._save(ROOT, pki.recertify_ca(self._root, now))
            self._recertify(now)
            self._publish(now, (self._root,))
        elif self._root.key_pem and pki.renewal_due(self._intermediate.certificate_pem, now):
            self._recertify(now)
        if pki.read_certificate(self._intermediate.certificate_pem).not_after <= now:
            raise StateUnavailable(
                "the intermediate CA has ended, and the root's key that renews it is away",
                hint="Type 'drawwell pki import-root FILE' on the signer's machine.",
            )
        return self._intermediate

    def _recertify(self, now: float) -> None:
        title = pki.read_certificate(self._intermediate.certificate_pem).common_name
        renewed = certify_intermediate(self._root, title, self._intermediate.key_pem, now)
        self._intermediate = self._save(INTERMEDIATE, renewed)

    def _rotate_intermediate(self, now: float) -> str:
        kept = [
            ca
            for ca in (self._intermediate.certificate_pem, *_blocks(self._earlier()))
            if pki.read_certificate(ca).not_after + _LEAVES_LIVE_S > now
        ]
        replace_file(self._path(_EARLIER), b"".join(kept))
        self._intermediate = self._save(INTERMEDIATE, new_intermediate(self._root, self._name, now))
        return "consumers follow at their next renewal; the earlier CA's certificate counts until it expires"

    def _rotate_receipts(self, now: float) -> str:
        listed = self._listed(read_file(self._path(LIST)))
        ended = tuple(key if key.until else replace(key, until=int(now)) for key in listed.receipt_keys)
        self._replaced = self._receipts, time.monotonic() + _FOLLOW_S
        replace_file(self._receipt_path, receipt_key_from_seed(os.urandom(32)))
        self._receipts = self._load_receipt_key()
        self._publish(now, self._roots(), ended)
        return "receipts of the earlier key stay verifiable by the list of keys"

    def _rotate_root(self, now: float) -> str:
        """Have consumers learn another root, while the present one goes on."""
        following = self._load(NEXT_ROOT) or self._save(NEXT_ROOT, pki.new_ca(self._name, now))
        self._publish(now, (self._root, following))
        return "type 'drawwell pki rotate finish-root' when every consumer has renewed, in 7 days or more"

    def _finish_root(self, now: float) -> str:
        following = self._load(NEXT_ROOT)
        if following is None or not following.key_pem:
            raise UsageError("no root follows this one", hint="Type 'drawwell pki rotate root' first.")
        self._publish(now, (following,))
        self._root = self._save(ROOT, following)
        self._recertify(now)
        for kind in (".pem", "-key.pem"):
            self._forget(NEXT_ROOT + kind)
        return "the earlier root counts no longer for consumers that renew from now on"

    def _publish(
        self, now: float, roots: Sequence[pki.KeyPair], earlier: tuple[ReceiptKey, ...] | None = None
    ) -> None:
        """Write the list of keys, signed by the roots and by the intermediate CA.

        The signature of the intermediate CA is for consumers of release 0.1, which pinned it.
        """
        present = self._receipts.public_key.decode()
        if earlier is None:
            document = read_file(self._path(LIST)) if os.path.exists(self._path(LIST)) else b""
            keys = self._listed(document).receipt_keys if document else (ReceiptKey(present, int(now)),)
        else:
            keys = (ReceiptKey(present, int(now)), *earlier)[:16]
        pems = tuple(pair.certificate_pem.decode() for pair in roots)
        signers = {pair.key_pem: pair for pair in (*roots, self._root, self._intermediate) if pair.key_pem}
        listed = KeyList(self._name, int(now), pems, keys)
        replace_file(self._path(LIST), listed.sign(signers.values()))

    def _roots(self) -> tuple[pki.KeyPair, ...]:
        following = self._load(NEXT_ROOT)
        return (self._root, following) if following else (self._root,)

    def _listed(self, document: bytes) -> KeyList:
        try:
            return KeyList.read(document, self._root.certificate_pem)
        except ValueError as error:
            raise _damaged(self._directory, LIST, str(error)) from error

    def _require_root_key(self) -> None:
        if not self._root.key_pem:
            raise UsageError(
                "the root's key is not on this machine", hint="Type 'drawwell pki import-root FILE' first."
            )

    def _earlier(self) -> bytes:
        path = self._path(_EARLIER)
        return read_file(path) if os.path.exists(path) else b""

    def _load_receipt_key(self) -> ReceiptSigner:
        if not os.path.exists(self._receipt_path):
            replace_file(self._receipt_path, receipt_key_from_seed(os.urandom(32)))
        return read_receipt_key(self._receipt_path)

    def _load(self, what: str) -> pki.KeyPair | None:
        return _load_pair(self._directory, what)

    def _save(self, what: str, pair: pki.KeyPair) -> pki.KeyPair:
        replace_file(self._path(f"{what}-key.pem"), pair.key_pem)
        replace_file(self._path(f"{what}.pem"), pair.certificate_pem)
        return pair

    def _forget(self, file: str) -> None:
        with rights_of_owner(self._directory), suppress(FileNotFoundError):
            os.unlink(self._path(file))

    def _path(self, file: str) -> str:
        return os.path.join(self._directory, file)

    @staticmethod
    def _fingerprint(pair: pki.KeyPair) -> str:
        return pki.spki_sha256(pair.certificate_pem).hex()


def read_receipt_key(path: str) -> ReceiptSigner:
    """Return the key that signs receipts.

    Raises:
        StateUnavailable: it cannot be read, or is not a receipt key.
        PermissionRefused: other users may read or change it.
    """
    try:
        return ReceiptSigner(read_secret(path))
    except ValueError as error:
        raise StateUnavailable(
            f"{path}: {error}", hint="Restore it from a backup, or move it away: a new one is made."
        ) from error


def check_keys(directory: str) -> None:
    """Check the keys in a directory, and make none; raises as `KeyRing`."""
    has_root = os.path.exists(os.path.join(directory, f"{ROOT}.pem"))
    for what in (ROOT, INTERMEDIATE, NEXT_ROOT) if has_root else (_CA_OF_0_1,):
        _load_pair(directory, what)


def _load_pair(directory: str, what: str) -> pki.KeyPair | None:
    """Read a pair; None without the certificate, which is written last."""
    certificate, key = (os.path.join(directory, what + kind) for kind in (".pem", "-key.pem"))
    if not os.path.exists(certificate):
        return None
    if what == ROOT and not os.path.exists(key):  # exported
        return pki.KeyPair(read_file(certificate), b"")
    pair = pki.KeyPair(read_file(certificate), read_secret(key))
    if not _is_pair(pair):
        raise _damaged(directory, f"{what}-key.pem", f"it is not the key of {certificate}")
    return pair


def _damaged(directory: str, file: str, why: str) -> StateUnavailable:
    return StateUnavailable(
        f"{os.path.join(directory, file)}: {why}",
        hint=f"Restore {directory} from a backup, or move it away: consumers must then be invited again.",
    )


def _blocks(pem: bytes) -> list[bytes]:
    return pki.pem_blocks(pem) if pem else []


def _is_pair(pair: pki.KeyPair) -> bool:
    try:
        return pki.spki_sha256(pair.certificate_pem) == pki.key_spki_sha256(pair.key_pem)
    except ValueError:
        return False
