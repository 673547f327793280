"""OpenSSH public keys (sshd(8), AUTHORIZED_KEYS; RFC 4253, 6.6)."""

import base64
import binascii
import functools
import hashlib
import shlex
from typing import Final

KINDS: Final = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
MAX_KEY_BYTES: Final = 4096


def parse_public_key(text: str) -> str:
    """Parse one public key; return ``kind base64`` without the comment.

    Raises:
        ValueError: `text` is not one public key of a supported kind; it is never quoted.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise ValueError(f"expected one line with a public key, not {len(lines)} lines")
    fields = lines[0].split()
    if len(fields) < 2 or fields[0] not in KINDS:
        raise ValueError("not an OpenSSH public key (its file name ends in .pub)")
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except binascii.Error as error:
        raise ValueError("the public key is damaged") from error
    kind = fields[0].encode()
    if len(blob) > MAX_KEY_BYTES or not blob.startswith(len(kind).to_bytes(4, "big") + kind):
        raise ValueError("the public key is damaged")
    return f"{fields[0]} {base64.b64encode(blob).decode()}"


@functools.lru_cache(1024)
def fingerprint(key: str) -> str:
    """Return the ``ssh-keygen -l`` fingerprint of a parsed key."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def authorized_line(command: list[str], key: str, name: str) -> str:
    """Return the line for authorized_keys that lets `key` run only `command`.

    Raises:
        ValueError: the command contains a line break.
    """
    text = shlex.join(command)
    if "\n" in text or "\r" in text:
        raise ValueError("a forced command must not contain a line break")
    quoted = text.replace('"', '\\"')
    return f'restrict,command="{quoted}" {key} {name}'
