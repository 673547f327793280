"""The words and the manifest of an evidence folder."""

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
    "This folder is no certificate, and nobody has certified this source. It holds what a laboratory or an auditor"
    " asks for first, so that they can judge for themselves."
)


def derivations(tests: Sequence[HealthTestReport]) -> list[dict[str, Any]]:
    """Return every cutoff in use with the formula that gives it."""
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
            f"SP 800-90B 4.4.2, first sample not counted as a trial:"
            f" min({w}, 2 + critbinom({w - 1}, 2^-{h}, 1 - 2^-{alpha})) = min({w}, 2 + {critical}) = {cutoff}"
        )
    if test.unit == "landmark":
        return (
            f"drawwell's own test: landmarks that content chose, the last {test.window:,} of them; in a row that had"
            f" come before: {cutoff}"
        )
    width = repeat_window(test.min_entropy)
    return (
        f"drawwell's own test: windows of {width} bytes known from the last 2^20, the least w with"
        f" 2^20 * ceil(2^20 / w) * 2^(-{h} w) <= 2^-30; permanent"
        f" from 1,024 bytes on, in whole windows; this cutoff: {cutoff} bytes"
    )


def cutoffs_text(rows: Sequence[Mapping[str, Any]], *, restart: int | None, h_initial: float) -> str:
    """Write the cutoffs for people."""
    lines = ["Every cutoff in use, with its derivation.", ""]
    for row in rows:
        lines += [f"{row['test']} of {row['unit']}s, {row['failure']} (alpha {row['alpha']}): {row['cutoff']}",
                  f"    {row['derivation']}"]  # fmt: skip
    if restart is not None:
        lines += [
            f"restart sanity check (alpha 1 - 0.99^(1/2000)): {restart}",
            f"    SP 800-90B 3.1.4.3: binomial tails of 1,000 samples at 2^-{h_initial:g}, summed over the values",
        ]
    return "\n".join(lines) + "\n"


def readme(*, name: str, simulated: bool, noise: str, restart: str, samples: int) -> str:
    """Write the README of the folder."""
    head = "SIMULATED DEVICE: nothing here says anything about hardware.\n\n" if simulated else ""
    return f"""# Evidence about the noise source {name}

{head}{DISCLAIMER}

| file | what |
|---|---|
| raw.bin | {samples:,} consecutive samples, one a byte ({noise}), taken before conditioning and used nowhere else |
| restart.bin | 1000 x 1000 restart matrix, row by row: {restart} |
| assessment.html, assessment.json | what SP 800-90B says of both, and what it looks like |
| cutoffs.txt, cutoffs.json | every cutoff of the health tests, with its derivation |
| induced-failures.log, induced-failures.json | stuck, biased, looping, dead input through the daemon's tests |
| source.json | who the source is, how it is configured, versions |
| {MANIFEST}, {SIGNATURE}, {PUBLIC_KEY} | SHA-256 of every file, Ed25519 signature of that list, public key |

To check it: `drawwell evidence --verify .`, or without drawwell:

    openssl pkeyutl -verify -pubin -inkey {PUBLIC_KEY} -rawin -in {MANIFEST} -sigfile {SIGNATURE}

The signature says that this folder is as it was made by whoever holds the key. Compare the key with the one that you
know; it proves nothing about the noise.
"""


def manifest(files: Mapping[str, bytes], facts: Mapping[str, Any]) -> bytes:
    """Return the manifest: the facts, and name, size and SHA-256 of every file."""
    listed = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    }
    return (json.dumps({"format": FORMAT, **facts, "files": listed}, indent=2) + "\n").encode()


def sign(manifest_: bytes, private_key_pem: bytes) -> tuple[bytes, bytes]:
    """Return the Ed25519 signature of a manifest and the public key in PEM.

    Raises:
        ValueError: not an Ed25519 private key in PEM.
    """
    key = load_pem_private_key(private_key_pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004  it is the file that is wrong
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.sign(manifest_), public


def verify(files: Mapping[str, bytes]) -> dict[str, Any]:
    """Check a folder's files against its manifest and its signature; return the manifest.

    Raises:
        BadData: no manifest, or a file is missing.
        AuthenticationFailed: the signature is wrong, or a file was changed.
    """
    missing = {MANIFEST, SIGNATURE, PUBLIC_KEY} - set(files)
    if missing:
        raise BadData(
            f"no evidence folder: {', '.join(sorted(missing))} missing", hint="Name the whole folder."
        )
    try:
        key = _public_key(files[PUBLIC_KEY])
        key.verify(files[SIGNATURE], files[MANIFEST])
        listed = json.loads(files[MANIFEST])
    except (InvalidSignature, ValueError):
        raise AuthenticationFailed(
            "the signature of the manifest is wrong",
            hint="Take nothing in this folder for what was measured.",
        ) from None
    for name, entry in listed["files"].items():
        if name not in files:
            raise BadData(f"{name} is missing", hint="Get the whole folder again.")
        if hashlib.sha256(files[name]).hexdigest() != entry["sha256"]:
            raise AuthenticationFailed(f"{name} was changed", hint="Get the whole folder again.")
    return dict(listed)


def _public_key(pem: bytes) -> Ed25519PublicKey:
    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")  # noqa: TRY004  it is the file that is wrong
    return key
