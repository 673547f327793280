"""Formats of a grant in a response: raw, hex, base64, JSON with receipt."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.blocks import Grant
from drawwell.wire.http_answers import JSON, PLAIN, HttpResponse

_QUALITY: Final = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")
"""A quality value (RFC 9110, section 12.4.2)."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format, selected in ``Accept`` by `media` and an optional `parameter`."""

    name: str
    media: str
    parameter: str
    content_type: str
    write: Callable[[Grant], bytes]
    receipt: bool = False

    def answer(self, grant: Grant) -> HttpResponse:
        """Render a grant."""
        return HttpResponse(200, self.content_type, self.write(grant), _marks(grant))


def _marks(grant: Grant) -> tuple[tuple[str, str], ...]:
    return ("Drawwell-Serial", str(grant.serial)), ("Drawwell-Class", str(grant.draw_class))


def _base64(grant: Grant) -> bytes:
    return base64.b64encode(grant.data) + b"\n"


def _json(grant: Grant) -> bytes:
    document = {
        "bytes": len(grant),
        "class": str(grant.draw_class),
        "serial": grant.serial,
        "data": base64.b64encode(grant.data).decode(),
        "receipt": grant.receipt.decode(),
        "receipt_key": base64.b64encode(grant.receipt_key).decode(),
    }
    return json.dumps(document).encode() + b"\n"


FORMATS: Final = {
    each.name: each
    for each in (
        Format("raw", "application/octet-stream", "", "application/octet-stream", lambda grant: grant.data),
        Format("hex", "text/plain", "hex", PLAIN, lambda grant: grant.data.hex().encode() + b"\n"),
        Format("base64", "text/plain", "base64", PLAIN, _base64),
        Format("json", JSON, "", JSON, _json, receipt=True),
    )
}
"""The formats by name, preferred first."""


def accepted(accept: str) -> Format | None:
    """Return the format that ``Accept`` prefers (RFC 9110, 12.5.1), or None.

    Malformed ranges are ignored.
    """
    ranges = [each for text in accept.split(",") if (each := _range(text))]
    if not accept.strip():
        ranges = [("*/*", "", 1.0)]
    best = max(FORMATS.values(), key=lambda each: _quality(each, ranges))
    return best if _quality(best, ranges) else None


def pollen_answer(challenge: str, grant: Grant) -> HttpResponse:
    """Answer like pollen: SHA-512 of challenge, then of challenge and bytes."""
    proof = hashlib.sha512(challenge.encode())
    seed = hashlib.sha512(challenge.encode() + grant.data)
    lines = f"{proof.hexdigest()}\n{seed.hexdigest()}\n"
    return HttpResponse(200, PLAIN, lines.encode(), _marks(grant))


def _range(text: str) -> tuple[str, str, float] | None:
    """Parse one range into media type, ``format`` parameter and quality."""
    media, *pieces = (piece.strip().lower() for piece in text.split(";"))
    parameters = {name.strip(): value.strip() for name, _, value in (each.partition("=") for each in pieces)}
    quality = parameters.get("q", "1")
    if not _QUALITY.fullmatch(quality):
        return None
    return media, parameters.get("format", "").strip('"'), float(quality)


def _quality(offer: Format, ranges: list[tuple[str, str, float]]) -> float:
    """Return the quality from the most specific range that matches the offer."""
    kind = offer.media.partition("/")[0]
    for media, parameter in (
        (offer.media, offer.parameter), (offer.media, ""), (f"{kind}/*", ""), ("*/*", ""),
    ):  # fmt: skip
        said = [quality for m, p, quality in ranges if (m, p) == (media, parameter)]
        if said:
            return max(said)
    return 0.0
