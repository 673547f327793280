"""The files of a `KeyRing`; opening them finishes an interrupted rotation.

root.pem intermediate.pem       certificates, each with NAME-key.pem (mode 0600)
next-root.pem                   the next root, which consumers learn before it is used
earlier.json                    replaced CAs whose certificates may be in use
receipt-key.pem                 the key that signs receipts and heads of the audit log
keys.json                       the list of keys for consumers (crypto/hierarchy.py)
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import (
    INTERMEDIATE_LIFETIME_S,
    MOST_KEYS,
    KeyList,
    ReceiptKey,
    certify_intermediate,
    intermediate_for,
    new_intermediate,
)
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed
from drawwell.enrolment.key_files import (
    CA_OF_0_1,
    INTERMEDIATE,
    NEXT_ROOT,
    RECEIPT_KEY,
    ROOT,
    damaged,
    earlier_cas,
    keep_cas,
    load_pair,
    read_receipt_key,
    was_cut_short,
)
from drawwell.errors import StateUnavailable, UsageError
from drawwell.ownership import rights_of_owner
from drawwell.state.files import make_private_directory, read_file, read_secret, replace_file

LIST: Final = "keys.json"
_LEAVES_LIVE_S: Final = pki.CLIENT_LIFETIME_S + 30 * pki.DAY_S
"""How long certificates can still be renewed after their intermediate CA expires."""
CLOCK_IS_SET_S: Final = 1_672_531_200.0
"""2023-01-01, before this program existed: a clock that shows an earlier time is not set."""


class RingFiles:
    """The key files in a directory, created if missing; see `KeyRing`.

    A rotation writes several files. The list of keys decides: opening the files finishes a
    rotation whose keys are in the list, and lists keys that are missing from it.
    """

    def __init__(self, directory: str, name: str, now: float, receipt_key: str = "") -> None:
        self._directory, self._name = directory, name
        self._receipt_path = receipt_key or self._path(RECEIPT_KEY)
        make_private_directory(directory)
        self._complete_root()
        root = load_pair(directory, ROOT)
        intermediate = self._load_intermediate(root, now)
        if (root is None or intermediate is None) and now < CLOCK_IS_SET_S:
            raise StateUnavailable(
                "this machine's clock is not set, so the CA cannot be created",
                hint="Set the clock and restart.",
            )
        self._root = root or self._save(ROOT, pki.new_ca(name, now))
        self._intermediate = intermediate or self._save(INTERMEDIATE, self._first_intermediate(now))
        self._receipts = self._load_receipt_key()
        if not os.path.exists(self._path(LIST)):
            self._publish(now, self._roots(), (self._present_key(now),))
        self._follow_list(now)
        for kind in ("-key.pem", ".pem"):
            self._forget(CA_OF_0_1 + kind)

    def require_root_key(self) -> None:
        """Raise UsageError, with a hint, if the root's key is elsewhere."""
        if not self._root.key_pem:
            raise UsageError(
                "the root's key is not on this machine", hint="Run 'drawwell pki import-root FILE' first."
            )

    # ---- opening ------------------------------------------------------------------

    def _complete_root(self) -> None:
        """Finish `finish-root` if the list has already dropped the old root."""
        following = load_pair(self._directory, NEXT_ROOT)
        if following and os.path.exists(self._path(LIST)):
            if self._list().roots[0].encode() != following.certificate_pem:
                return
            if following.key_pem:
                self._save(ROOT, following)
            self._forget_next_root()

    def _load_intermediate(self, root: pki.KeyPair | None, now: float) -> pki.KeyPair | None:
        """Load the intermediate CA; certify its key if its rotation did not."""
        try:
            return load_pair(self._directory, INTERMEDIATE)
        except StateUnavailable:
            if root is None or not was_cut_short(self._directory, INTERMEDIATE):
                raise
        key = read_secret(self._path(f"{INTERMEDIATE}-key.pem"))
        return self._save(INTERMEDIATE, intermediate_for(root, self._name, key, now))

    def _first_intermediate(self, now: float) -> pki.KeyPair:
        """Certify the CA of release 0.1 if it exists, else a new intermediate CA."""
        first = load_pair(self._directory, CA_OF_0_1)
        if first is None:
            return new_intermediate(self._root, self._name, now)
        title = pki.read_certificate(first.certificate_pem).common_name
        return certify_intermediate(self._root, title, first.key_pem, now)

    def _load_receipt_key(self) -> ReceiptSigner:
        if not os.path.exists(self._receipt_path):
            return self._new_receipt_key()
        return read_receipt_key(self._receipt_path)

    def _new_receipt_key(self) -> ReceiptSigner:
        replace_file(self._receipt_path, receipt_key_from_seed(os.urandom(32)))
        return read_receipt_key(self._receipt_path)

    def _follow_list(self, now: float) -> None:
        """Make list and keys agree, and drop earlier CAs that have ended."""
        if not self._root.key_pem:
            self._install_root(self._list().roots[0].encode())
        elif now >= CLOCK_IS_SET_S:
            self._list_keys(now)
        if now >= CLOCK_IS_SET_S:
            kept = {ca: end for ca, end in earlier_cas(self._directory).items() if end > now}
            keep_cas(self._directory, kept)

    def _list_keys(self, now: float) -> None:
        """List this machine's keys if they are not listed; needs the root's key."""
        if not pki.is_issued_by(self._intermediate.certificate_pem, self._root.certificate_pem):
            self._recertify(self._root, now)
        listed, own = self._list(), self._present_key(now)
        keys = listed.receipt_keys
        if own.public_key not in {key.public_key for key in keys}:
            # the replaced key is the first one, because others' keys are appended
            keys = (own, *(listed.with_ended(keys[0].public_key, now) if keys else ()))
        roots = tuple(root.certificate_pem.decode() for root in self._roots())
        if (roots, keys) != (listed.roots, listed.receipt_keys):
            self._publish(now, self._roots(), keys)

    # ---- the list ------------------------------------------------------------------

    def _publish(
        self, now: float, roots: Sequence[pki.KeyPair], keys: tuple[ReceiptKey, ...] | None = None
    ) -> None:
        """Write the list of keys, signed by the roots and by the intermediate CA.

        Consumers of release 0.1 have pinned the intermediate CA and need its signature. Each
        list is later than the one before, even if the clock was set back.
        """
        previous = self._list() if os.path.exists(self._path(LIST)) else None
        if keys is None:
            keys = previous.receipt_keys if previous else ()
        pems = tuple(pair.certificate_pem.decode() for pair in roots)
        signers = {pair.key_pem: pair for pair in (*roots, self._root, self._intermediate) if pair.key_pem}
        time_s = max(int(now), previous.time_s + 1 if previous else 0)
        listed = KeyList(self._name, time_s, pems, keys[:MOST_KEYS])
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
            return KeyList.read_own(document)
        except ValueError as error:
            raise damaged(self._directory, LIST, str(error)) from error

    # ---- other files ------------------------------------------------------------------

    def _recertify(self, root: pki.KeyPair, now: float) -> None:
        """Certify the intermediate CA's key again."""
        title = pki.read_certificate(self._intermediate.certificate_pem).common_name
        renewed = certify_intermediate(root, title, self._intermediate.key_pem, now)
        self._intermediate = self._save(INTERMEDIATE, renewed)

    def _install_root(self, certificate: bytes) -> None:
        """Store a root whose key is on another machine."""
        if self._root.certificate_pem != certificate:
            replace_file(self._path(f"{ROOT}.pem"), certificate)
            self._root = pki.KeyPair(certificate, b"")

    def _keep_intermediate(self) -> None:
        """Keep the intermediate CA to verify its consumers."""
        certificate = self._intermediate.certificate_pem
        self._keep(certificate, pki.read_certificate(certificate).not_after + _LEAVES_LIVE_S)

    def _keep_root(self, now: float) -> None:
        """Keep the root to verify consumers of every broker's intermediate CA.

        The root certifies no more of these CAs, so the last certificate ends one lifetime from
        now.
        """
        self._keep(self._root.certificate_pem, now + INTERMEDIATE_LIFETIME_S + _LEAVES_LIVE_S)

    def _keep(self, certificate: bytes, until: float) -> None:
        keep_cas(self._directory, earlier_cas(self._directory) | {certificate.decode(): until})

    def _save(self, what: str, pair: pki.KeyPair) -> pki.KeyPair:
        replace_file(self._path(f"{what}-key.pem"), pair.key_pem)
        replace_file(self._path(f"{what}.pem"), pair.certificate_pem)
        return pair

    def _forget_root_keys(self) -> None:
        for what in (ROOT, NEXT_ROOT):
            self._forget(f"{what}-key.pem")
        self._root = pki.KeyPair(self._root.certificate_pem, b"")

    def _forget_next_root(self) -> None:
        for kind in (".pem", "-key.pem"):
            self._forget(NEXT_ROOT + kind)

    def _forget(self, file: str) -> None:
        with rights_of_owner(self._directory), suppress(FileNotFoundError):
            os.unlink(self._path(file))

    def _path(self, file: str) -> str:
        return os.path.join(self._directory, file)
