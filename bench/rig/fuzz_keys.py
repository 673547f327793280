"""Targets of bench/fuzz.py for keys, and the kept inputs of all targets."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from drawwell.crypto import pki
from drawwell.crypto.sshkeys import parse_public_key
from drawwell.roles.signer_process import SignerRole
from drawwell.wire import signer_messages


def kept(name: str) -> list[bytes]:
    """Return the kept inputs of a target, each of which added coverage."""
    file = Path(__file__).parents[1] / "corpus" / f"{name}.txt"
    return [bytes.fromhex(line) for line in file.read_text().split()] if file.exists() else []


def fuzz_signer() -> tuple[Callable[[bytes], None], list[bytes]]:
    role = SignerRole(tempfile.mkdtemp(), "well", lambda: 1.7e9)
    csr = pki.new_key_and_csr("web01")[1].decode()

    def run(data: bytes) -> None:
        assert role.answer(data, 4242)

    write = signer_messages.write_object
    return run, [
        signer_messages.write_texts([b'{"format":"drawwell-audit-head/1"}', b"{}"]), write(op="public"),
        write(op="certify", csr=csr, consumer="web01"), write(op="serve", csr=csr, names=["a"]),
        write(op="adopt", ca_certificate="", ca_key="", receipt_key=""), write(op="rotate", what="root"),
    ]  # fmt: skip


def fuzz_ssh_key() -> tuple[Callable[[bytes], None], list[bytes]]:
    def run(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            parse_public_key(data.decode("latin-1"))

    key = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA x\n"
    return run, [key]
