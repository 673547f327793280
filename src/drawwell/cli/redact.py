"""Masks keys, tokens and drawn bytes in text that users share."""

import re
from typing import Final

MASK: Final = "[masked]"
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?(-----END \1-----|\Z)", re.DOTALL)
_TOKEN: Final = re.compile(r"\bdw1\.\S+")
_USER_INFO: Final = re.compile(r"(?<=://)[^/@\s\"']*:[^/@\s\"']*(?=@)")
_NAMED: Final = re.compile(
    r"(?i)\b([a-z_-]{0,32}(?:secret|password|passphrase|passwd|token|api[_-]?key|private[_-]?key))"
    r"([\"']?\s{0,8}[=:]\s{0,8}|\s{1,8})(\"[^\"\n]*\"?|'[^'\n]*'?|\S+)"
)
_HEX: Final = re.compile(r"(?i)(?<![0-9a-z])(?:[0-9a-f]{2}[ :]?){16,}(?![0-9a-z])")
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,}={0,2}")


def masked(text: str) -> str:
    """Mask PEM blocks, tokens, passwords, and long runs of hex or base64."""
    text = _BLOCK.sub(f"-----{MASK}-----", text)
    text = _TOKEN.sub(f"dw1.{MASK}", text)
    text = _USER_INFO.sub(MASK, text)
    text = _NAMED.sub(rf"\1\2{MASK}", text)
    text = _HEX.sub(_unless_plain, text)
    return _BASE64.sub(lambda run: MASK if _looks_random(run[0]) else run[0], text)


def _unless_plain(run: "re.Match[str]") -> str:
    """Mask hexadecimal digits, except groups of decimal digits such as a date."""
    digits = run[0].replace(" ", "").replace(":", "")
    return run[0] if digits.isdecimal() and (":" in run[0] or " " in run[0]) else MASK


def _looks_random(run: str) -> bool:
    """Return whether the text has digits and both cases, as encoded bytes do."""
    kinds = [sum(map(kind, run)) for kind in (str.isdigit, str.isupper, str.islower)]
    return all(count >= 2 for count in kinds)
