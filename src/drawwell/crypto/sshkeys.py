"""Public keys as OpenSSH writes them (sshd(8), AUTHORIZED_KEYS FILE FORMAT; RFC 4253, section 6.6)."""

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
    """Return ``kind base64`` of the one key in `text`, without options and comment.

    Raises:
        ValueError: not one public key of a kind in use; a private key is never repeated.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        raise ValueError(f"{len(lines)} lines and not one public key")
    words = lines[0].split()
    if len(words) < 2 or words[0] not in KINDS:
        raise ValueError("not a public key of OpenSSH (the file whose name ends in .pub)")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error as error:
        raise ValueError("the public key is damaged") from error
    kind = words[0].encode()
    if len(blob) > MAX_KEY_BYTES or not blob.startswith(len(kind).to_bytes(4, "big") + kind):
        raise ValueError("the public key is damaged")
    return f"{words[0]} {base64.b64encode(blob).decode()}"


@functools.lru_cache(1024)
def fingerprint(key: str) -> str:
    """Return what ``ssh-keygen -l`` shows for a key that `parse_public_key` returned."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def authorized_line(command: list[str], key: str, name: str) -> str:
    """Return the line of authorized_keys that lets `key` in to run `command` and nothing else.

    Raises:
        ValueError: a line break in the command.
    """
    words = shlex.join(command)
    if "\n" in words or "\r" in words:
        raise ValueError("a forced command is one line")
    quoted = words.replace('"', '\\"')
    return f'restrict,command="{quoted}" {key} {name}'
