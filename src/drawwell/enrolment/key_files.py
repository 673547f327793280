"""Reading and checking a broker's key files."""

import json
import os
from collections.abc import Mapping
from typing import Final

from drawwell.crypto import pki
from drawwell.crypto.receipts import ReceiptSigner
from drawwell.errors import StateUnavailable
from drawwell.state.files import make_private_directory, read_file, read_secret, replace_file

ROOT: Final = "root"
NEXT_ROOT: Final = "next-root"
INTERMEDIATE: Final = "intermediate"
CA_OF_0_1: Final = "ca"
RECEIPT_KEY: Final = "receipt-key.pem"
EARLIER: Final = "earlier.json"


def read_receipt_key(path: str) -> ReceiptSigner:
    """Read the key that signs receipts.

    Raises:
        StateUnavailable: the file cannot be read, or is not a receipt key.
        PermissionRefused: other users can read or change the file.
    """
    try:
        return ReceiptSigner(read_secret(path))
    except ValueError as error:
        raise StateUnavailable(
            f"{path}: {error}", hint="Restore it from a backup, or move it away to have a new one created."
        ) from error


def check_keys(directory: str) -> None:
    """Check existing keys in a directory; same errors as `KeyRing`."""
    has_root = os.path.exists(os.path.join(directory, f"{ROOT}.pem"))
    for what in (ROOT, INTERMEDIATE, NEXT_ROOT) if has_root else (CA_OF_0_1,):
        try:
            load_pair(directory, what)
        except StateUnavailable:
            if not was_cut_short(directory, what):
                raise


def was_cut_short(directory: str, what: str) -> bool:
    """Return whether a rotation wrote this key but not its certificate.

    `KeyRing` finishes such a rotation when it opens the files.
    """
    key, root_key, next_key = (os.path.join(directory, f"{each}-key.pem") for each in (what, ROOT, NEXT_ROOT))
    if what == ROOT:
        return os.path.exists(next_key) and read_secret(key) == read_secret(next_key)
    try:
        pki.key_spki_sha256(read_secret(key))
    except ValueError:
        return False
    return what == INTERMEDIATE and os.path.exists(root_key)


def load_pair(directory: str, what: str) -> pki.KeyPair | None:
    """Return a key pair, or None if its certificate (written last) is missing."""
    certificate, key = (os.path.join(directory, what + kind) for kind in (".pem", "-key.pem"))
    if not os.path.exists(certificate):
        return None
    if what in {ROOT, NEXT_ROOT} and not os.path.exists(key):  # the key was exported
        return pki.KeyPair(read_file(certificate), b"")
    pair = pki.KeyPair(read_file(certificate), read_secret(key))
    if not is_pair(pair):
        raise damaged(directory, f"{what}-key.pem", f"the key does not match {certificate}")
    return pair


def damaged(directory: str, file: str, why: str) -> StateUnavailable:
    """Return the error for an unusable file."""
    return StateUnavailable(
        f"{os.path.join(directory, file)}: {why}",
        hint=f"Restore {directory} from a backup, or move it away. Then all consumers must be invited again.",
    )


def is_pair(pair: pki.KeyPair) -> bool:
    """Return whether key and certificate match."""
    try:
        return pki.spki_sha256(pair.certificate_pem) == pki.key_spki_sha256(pair.key_pem)
    except ValueError:
        return False


def earlier_cas(directory: str) -> dict[str, float]:
    """Return replaced CAs (PEM), and until when they verify consumers."""
    path = os.path.join(directory, EARLIER)
    if not os.path.exists(path):
        return {}
    try:
        return {str(pem): float(end) for pem, end in dict(json.loads(read_file(path))).items()}
    except (ValueError, TypeError) as error:
        raise damaged(directory, EARLIER, str(error)) from error


def keep_cas(directory: str, cas: Mapping[str, float]) -> None:
    """Store replaced CAs, and until when they verify consumers."""
    if cas != earlier_cas(directory):
        replace_file(os.path.join(directory, EARLIER), json.dumps(cas, indent=2).encode())


def write_adopted(directory: str, keys: Mapping[str, str]) -> None:
    """Write the keys of a broker of release 0.1; raises ValueError."""
    certificate, ca_key, receipt_key = (
        keys[each].encode() for each in ("ca_certificate", "ca_key", "receipt_key")
    )
    if ca_key and not is_pair(pki.KeyPair(certificate, ca_key)):
        raise ValueError("the CA's key does not match its certificate")
    if receipt_key:
        ReceiptSigner(receipt_key)
    make_private_directory(directory)
    if ca_key:
        replace_file(os.path.join(directory, f"{CA_OF_0_1}-key.pem"), ca_key)
        replace_file(os.path.join(directory, f"{CA_OF_0_1}.pem"), certificate)
    if receipt_key:
        replace_file(os.path.join(directory, RECEIPT_KEY), receipt_key)
