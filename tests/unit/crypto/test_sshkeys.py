"""OpenSSH public keys, and their lines in authorized_keys."""

import base64
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.config.addresses import SshAddress, parse_ssh_address
from drawwell.crypto.sshkeys import KINDS, authorized_line, fingerprint, parse_public_key

KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))).decode()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")
def test_keys_of_openssh_are_taken_with_its_fingerprint(tmp_path: Path, kind: str) -> None:
    """A key from ssh-keygen is read without comment, with its fingerprint."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "a comment", "-f", path], check=True)
    text = path.with_suffix(".pub").read_text()
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", path], capture_output=True, text=True, check=True
    ).stdout

    key = parse_public_key(text)

    assert key == " ".join(text.split()[:2])
    assert fingerprint(key) == shown.split()[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing but a comment",
        f"{KEY}\n{KEY}",
        f'command="sh" {KEY}',
        f"restrict {KEY}",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "ssh-dss " + KEY.split()[1],
        "ssh-rsa " + KEY.split()[1],
        "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----",
        "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519" + bytes(5000)).decode(),
    ],
)
def test_what_is_no_public_key_is_refused_and_not_repeated(text: str) -> None:
    """Options, several keys, damaged and private keys are refused, not quoted."""
    with pytest.raises(ValueError, match=r"key|lines") as caught:
        parse_public_key(text)
    assert "c2VjcmV0" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    """Any text parses to one line of two fields, or is refused."""
    try:
        kind, blob = parse_public_key(text).split(" ")
    except ValueError:
        return
    assert kind in KINDS
    assert base64.b64decode(blob, validate=True)


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs", "Cc"])), min_size=1)
)
def test_forced_command_reads_back(command: list[str]) -> None:
    """Unquoted by authorized_keys and the shell, the command is unchanged."""
    line = authorized_line(command, KEY, "web01")
    head, tail = 'restrict,command="', f'" {KEY} web01'
    assert line.startswith(head)
    assert line.endswith(tail)
    quoted = line.removeprefix(head).removesuffix(tail)
    assert shlex.split(quoted.replace('\\"', '"')) == command


def test_forced_command_is_one_line() -> None:
    """A line break would start another line in authorized_keys."""
    with pytest.raises(ValueError, match="a line break"):
        authorized_line(["drawwell", "-c", "/a\n/b"], KEY, "web01")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("well", SshAddress("well")),
        ("me@well.example.org", SshAddress("well.example.org", "me")),
        ("well:2222", SshAddress("well", port=2222)),
        ("me@[fe80::1]:22", SshAddress("fe80::1", "me", 22)),
    ],
)
def test_addresses_read_back(text: str, address: SshAddress) -> None:
    """User and port are optional; addresses format as they parse."""
    assert parse_ssh_address(text) == address
    assert str(address) == f"ssh://{text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=id",
        "me@-oProxyCommand=id",
        "-l@well",
        "well:0",
        "well:65536",
        "a b",
        "well/x",
        "@well",
    ],
)
def test_nothing_in_an_address_is_an_option(text: str) -> None:
    """Options of ssh, or anything but a host, are refused."""
    with pytest.raises(ValueError, match="host"):
        parse_ssh_address(text)
