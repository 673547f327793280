"""Identities in certificates, admitted by ``match`` in [[consumer]].

The consumer's name is the identity: a URI unchanged, or another identity with its kind as a
prefix. These names contain a colon, so they differ from all other consumers' names.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

_SEPARATOR: Final = {"uri": "/", "dns": "."}
"""The characters that wildcards do not match, by kind of identity."""
_NAME: Final = re.compile(r"[!-~]{1,255}")
"""Text that is allowed in logs and receipts (crypto/receipt_form.py)."""


def consumer_named(kind: str, identity: str) -> str:
    """Return the consumer's name for a certificate's `identity`.

    DNS names are not case-sensitive (RFC 4343).
    """
    return identity if kind == "uri" else f"{kind}:{_folded(kind, identity)}"


def is_identity(name: str) -> bool:
    """Return whether `name` is valid for a consumer admitted by a pattern."""
    return ":" in name and _NAME.fullmatch(name) is not None


def first_match(kind: str, patterns: Iterable[str], name: str) -> int | None:
    """Return the index of the first pattern that admits `name`, or None.

    ``*``, ``?`` and ``[…]`` match within one part of an identity only: between the slashes of
    a URI, or between the dots of a DNS name.
    """
    identity = name if kind == "uri" else name.removeprefix(f"{kind}:")
    if not is_identity(name) or consumer_named(kind, identity) != name:
        return None
    parts = _parts(kind, identity)
    for place, pattern in enumerate(patterns):
        wanted = _parts(kind, _folded(kind, pattern))
        if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
            return place
    return None


def _folded(kind: str, text: str) -> str:
    return text.lower() if kind == "dns" else text


def _parts(kind: str, text: str) -> Sequence[str]:
    separator = _SEPARATOR.get(kind)
    return text.split(separator) if separator else (text,)
