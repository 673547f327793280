"""The texts and the manifest of an evidence folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from drawwell.entropy.cutoffs import INTERMITTENT_ALPHA_LOG2, PERMANENT_ALPHA_LOG2, critbinom, repeat_window
from drawwell.errors import AuthenticationFailed, BadData
from drawwell.reports import HealthTestReport

MANIFEST: Final = "MANIFEST.json"
SIGNATURE: Final = "MANIFEST.sig"
PUBLIC_KEY: Final = "manifest-key.pem"
FORMAT: Final = "drawwell-evidence-1"

DISCLAIMER: Final = (
    "This folder is not a certificate, and the source is not certified. It contains what a laboratory or an auditor"
    " requests first, as a basis for their own assessment."
)


def derivations(tests: Sequence[HealthTestReport]) -> list[dict[str, Any]]:
    """Return all cutoffs in use with their formulas."""
    found = []
    for test in tests:
        for kind, alpha, cutoff in (
            ("intermittent", INTERMITTENT_ALPHA_LOG2, test.cutoff_intermittent),
            ("permanent", PERMANENT_ALPHA_LOG2, test.cutoff_permanent),
        ):
            found.append(
                {
                    "test": test.name, "unit": test.unit, "min_entropy": test.min_entropy, "window": test.window,
                    "failure": kind, "alpha": f"2^-{alpha}", "cutoff": cutoff,
                    "derivation": _derivation(test, alpha, cutoff),
                }
            )  # fmt: skip
    return found


def _derivation(test: HealthTestReport, alpha: int, cutoff: int) -> str:
    h = f"{test.min_entropy:g}"
    if test.name == "repetition count":
        return f"SP 800-90B 4.4.1: 1 + ceil({alpha} / {h}) = {cutoff}"
    if test.name == "adaptive proportion":
        w = test.window
        critical = critbinom(w - 1, test.min_entropy, alpha)
        return (
            f"SP 800-90B 4.4.2, the first sample does not count as a trial:"
            f" min({w}, 2 + critbinom({w - 1}, 2^-{h}, 1 - 2^-{alpha})) = min({w}, 2 + {critical}) = {cutoff}"
        )
    if test.unit == "landmark":
        return (
            f"drawwell's own test: it remembers the last {test.window:,} landmarks (positions chosen by content); "
            f"cutoff for landmarks in a row that occurred before: {cutoff}"
        )
    width = repeat_window(test.min_entropy)
    return (
        f"drawwell's own test: windows of {width} bytes that also occurred in the last 2^20 bytes; the width is the "
        f"least w with 2^20 * ceil(2^20 / w) * 2^(-{h} w) <= 2^-30; permanent from 1,024 bytes on, in whole "
        f"windows; this cutoff: {cutoff} bytes"
    )


def cutoffs_text(rows: Sequence[Mapping[str, Any]], *, restart: int | None, h_initial: float) -> str:
    """Format the cutoffs as text."""
    lines = ["Every cutoff in use, with its derivation.", ""]
    for row in rows:
        lines += [f"{row['test']} of {row['unit']}s, {row['failure']} (alpha {row['alpha']}): {row['cutoff']}",
                  f"    {row['derivation']}"]  # fmt: skip
    if restart is not None:
        lines += [
            f"restart sanity check (alpha 1 - 0.99^(1/2000)): {restart}",
            f"    SP 800-90B 3.1.4.3: binomial tails of 1,000 samples at 2^-{h_initial:g}, summed over all values",
        ]
    return "\n".join(lines) + "\n"


def readme(*, name: str, simulated: bool, noise: str, restart: str, samples: int) -> str:

    head = "SIMULATED DEVICE: nothing here applies to real hardware.\n\n" if simulated else ""
    return f"""# Evidence for the noise source {name}

{head}{DISCLAIMER}

| file | contents |
|---|---|
| raw.bin | {samples:,} consecutive samples, one per byte ({noise}), taken before conditioning and used nowhere else |
| restart.bin | 1000 x 1000 restart matrix, row by row: {restart} |
| assessment.html, assessment.json | SP 800-90B assessment of raw.bin and restart.bin, with plots |
| cutoffs.txt, cutoffs.json | every cutoff of the health tests, with its derivation |
| induced-failures.log, induced-failures.json | stuck, biased, looping and dead input through drawwell's health tests |
| source.json | identity and configuration of the source, versions |
| {MANIFEST}, {SIGNATURE}, {PUBLIC_KEY} | SHA-256 of every file, Ed25519 signature of that list, public key |

Check the folder with `drawwell evidence --verify .`, or without drawwell:

    openssl pkeyutl -verify -pubin -inkey {PUBLIC_KEY} -rawin -in {MANIFEST} -sigfile {SIGNATURE}

The signature proves that the folder has not changed since the key holder created it. Compare the key with
a copy that you trust. The signature proves nothing about the noise.
"""


def manifest(files: Mapping[str, bytes], facts: Mapping[str, Any]) -> bytes:
    """Return the manifest: facts, and each file's name, size and SHA-256."""
    listed = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    }
    return (json.dumps({"format": FORMAT, **facts, "files": listed}, indent=2) + "\n").encode()


def sign(manifest_: bytes, private_key_pem: bytes) -> tuple[bytes, bytes]:
    """Return a manifest's Ed25519 signature, and the public key in PEM.

    Raises:
        ValueError: the key is not an Ed25519 private key in PEM.
    """
    key = load_pem_private_key(private_key_pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004  the file is wrong
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.sign(manifest_), public


def verify(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Check files against their signed manifest; return the manifest.

    Raises:
        BadData: the manifest or a file is missing.
        AuthenticationFailed: the signature is wrong, or a file has changed.
    """
    missing = {MANIFEST, SIGNATURE, PUBLIC_KEY} - set(files)
    if missing:
        raise BadData(
            f"not an evidence folder: {', '.join(sorted(missing))} missing", hint="Use the complete folder."
        )
    try:
        key = _public_key(files[PUBLIC_KEY])
        key.verify(files[SIGNATURE], files[MANIFEST])
        listed = json.loads(files[MANIFEST])
    except (InvalidSignature, ValueError):
        raise AuthenticationFailed(
            "the signature of the manifest is wrong",
            hint="Do not trust anything in this folder.",
        ) from None
    for name, entry in listed["files"].items():
        if name not in files:
            raise BadData(f"{name} is missing", hint="Copy the whole folder again.")
        if hashlib.sha256(files[name]).hexdigest() != entry["sha256"]:
            raise AuthenticationFailed(f"{name} has changed", hint="Copy the whole folder again.")
    return dict(listed)


def _public_key(pem: bytes) -> Ed25519PublicKey:
    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004  the file is wrong
    return key
