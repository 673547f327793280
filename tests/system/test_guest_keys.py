"""Large keys, generated in a machine fed by its host's broker."""

import shutil
from pathlib import Path

import pytest

from lab.cache import or_skip
from lab.guest import QemuGuest
from lab.host_programs import host_programs
from lab.initramfs import tiny
from support.daemon import command

KEYS_S = 900.0
"""An emulated processor needs 5 to 60 s for RSA-4096; a loaded machine is slow."""
ORDER = """%no-protection
Key-Type: RSA
Key-Length: 4096
Name-Real: A Guest
%commit
"""
pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]


def test_large_keys_are_made_in_a_guest(broker: Path) -> None:
    """gpg makes RSA-4096 and ssh-keygen Ed25519 in a guest fed by the broker."""
    with or_skip():
        programs = host_programs("gpg", "gpg-agent", "ssh-keygen")
        users = {"/etc/passwd": b"root:x:0:0:root:/tmp:/bin/sh\n", "/etc/order": ORDER.encode()}
        image = tiny("cloud", files={**programs, **users})
    assert command("guest", "apply", "qemu", "keys", "--new", config=broker).returncode == 0
    socket = broker.parent / "run/guests/keys/egd.sock"
    rng = ("-object", "rng-egd,id=r,chardev=c", "-device", "virtio-rng-pci,rng=r")
    with QemuGuest(image, "-chardev", f"socket,id=c,path={socket},reconnect=1", *rng) as machine:
        machine.check("export HOME=/tmp PATH=/bin:/usr/bin")
        machine.check("gpg --batch --full-generate-key /etc/order", within_s=KEYS_S)
        assert "rsa4096" in machine.check("gpg --list-secret-keys")
        machine.check("ssh-keygen -q -t ed25519 -N '' -f /tmp/key", within_s=KEYS_S)
        assert machine.check("ssh-keygen -l -f /tmp/key").startswith("256 SHA256:")
    listed = command("guest", "list", "--json", config=broker).stdout
    assert '"full_bytes": 0' not in listed
