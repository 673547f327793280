"""``drawwell receipt``, and the manual verification in docs/receipts.md."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import KeyList, ReceiptKey
from drawwell.crypto.receipts import ReceiptBody, ReceiptSigner, ReceiptSource, receipt_key_from_seed
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.entropy.mixing import mixed

PAGE = Path(__file__).parents[2] / "docs" / "receipts.md"
DATA, KEY = bytes(range(200)), bytes(range(7, 39))
SIGNER = ReceiptSigner(receipt_key_from_seed(bytes(32)))


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Return the files of a draw with a receipt."""
    source = ReceiptSource('a "stick"', "onerng", True, "raw noise", "not verified", "healthy", 2)
    body = ReceiptBody.of(
        broker="größe-1", consumer="web01", sources=(source,), draw_class=DrawClass.FULL, serial=2**53 + 1,
        time=1_800_000_000.0, data=DATA, key=KEY,
    )  # fmt: skip
    files = {
        "receipt": SIGNER.sign(body), "receipt.key": KEY, "drawn.bin": DATA, "receipt-key.pem": SIGNER.public_key,
        "other.pem": ReceiptSigner(receipt_key_from_seed(b"\1" * 32)).public_key,
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def run(where: Path, *args: str) -> subprocess.CompletedProcess[str]:
    configuration = where / "drawwell.toml"
    configuration.write_text(f'[broker]\nstate_dir = "{where}/state"\nrun_dir = "{where}/run"\n')
    return subprocess.run(
        [sys.executable, "-m", "drawwell", "-c", str(configuration), "receipt", *args],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )


def by_hand(where: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    script = re.search(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script
    return subprocess.run(["sh", "-c", script[1]], cwd=where, capture_output=True, text=True, check=False)


def test_page_of_text_verifies_a_receipt_with_openssl(drawn: Path) -> None:
    """The commands in docs/receipts.md accept signature, key and bytes."""
    done = by_hand(drawn)

    assert done.stdout.splitlines() == ["Signature Verified Successfully", "key id matches", "data matches"]


@pytest.mark.parametrize(
    ("name", "content", "missing"),
    [
        ("receipt", SIGNER.public_key, "Signature Verified Successfully"),
        ("receipt-key.pem", ReceiptSigner(receipt_key_from_seed(b"\1" * 32)).public_key, "key id matches"),
        ("drawn.bin", DATA[:-1], "data matches"),
        ("receipt.key", bytes(32), "data matches"),
    ],
)
def test_page_of_text_refuses_what_is_false(drawn: Path, name: str, content: bytes, missing: str) -> None:
    """The same commands refuse another receipt, key or bytes."""
    (drawn / name).write_bytes(content)

    assert missing not in by_hand(drawn).stdout


def test_verify_checks_signature_and_data(drawn: Path) -> None:
    """With key and data everything is checked; the result states its limits."""
    done = run(drawn, "verify", "receipt", "--key", "receipt-key.pem", "--data", "drawn.bin")

    assert (done.returncode, done.stderr) == (0, "")
    assert "signature  verified" in done.stdout
    assert "data       matches" in done.stdout
    assert "SIMULATED" in done.stdout
    assert "does not prove that the broker is honest" in done.stdout


def test_verify_finds_the_key_of_a_broker_that_was_joined(drawn: Path) -> None:
    """Without --key, the key is found among the joined brokers."""
    for name, key in (("other", "other.pem"), ("well", "receipt-key.pem")):
        link = drawn / "state" / "links" / name
        link.mkdir(parents=True)
        (link / "link.json").write_text(
            json.dumps({"broker": name, "consumer": "web01", "addresses": ["127.0.0.1:55000"]})
        )
        (link / "receipt-key.pem").write_bytes((drawn / key).read_bytes())
    done = run(drawn, "verify", "receipt", "--data", "drawn.bin")

    assert (done.returncode, done.stderr) == (0, "")
    assert "(joined broker well)" in done.stdout


@pytest.mark.parametrize(("ended_s", "is_good"), [(0, True), (1_800_000_000, True), (1_799_999_000, False)])
def test_a_receipt_that_is_younger_than_its_keys_end_is_refused(
    drawn: Path, ended_s: int, is_good: bool
) -> None:
    """A receipt dated long after its key was replaced is refused."""
    root, link = pki.new_ca("well", 1.7e9), drawn / "state" / "links" / "well"
    link.mkdir(parents=True)
    document = {"broker": "well", "consumer": "web01", "addresses": ["127.0.0.1:55000"]}
    (link / "link.json").write_text(json.dumps(document))
    keys = (ReceiptKey(SIGNER.public_key.decode(), 1, ended_s),)
    listed = KeyList("well", 1_800_000_001, (root.certificate_pem.decode(),), keys)
    for name, pem in (
        ("receipt-key.pem", SIGNER.public_key), ("ca.pem", root.certificate_pem), ("keys.json", listed.sign([root])),
    ):  # fmt: skip
        (link / name).write_bytes(pem)
    done = run(drawn, "verify", "receipt", "--data", "drawn.bin")
    assert (done.returncode == 0) is is_good, done.stderr
    assert is_good or "replaced its key" in done.stderr


def test_verify_without_data_reports_it(drawn: Path) -> None:
    """Without --data, the bytes are reported as not checked."""
    done = run(drawn, "verify", "receipt", "--key", "receipt-key.pem", "--json")
    document = json.loads(done.stdout)

    assert (document["signature"], document["data"], document["body"]["serial"]) == (
        "verified",
        "not checked",
        2**53 + 1,
    )


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--key", "other.pem"], 77, "the signature is wrong"),
        (["--key", "receipt-key.pem", "--data", "receipt"], 77, "the receipt is for other data"),
        (["--key", "receipt-key.pem", "--data", "drawn.bin", "--hmac-key", "drawn.bin"], 64, "32 bytes"),
        (["--key", "receipt-key.pem", "--hmac-key", "receipt.key"], 64, "--hmac-key needs --data"),
        (["--key", "receipt"], 64, "not a PEM public key"),
        (["--key", "absent"], 64, "cannot read absent"),
        ([], 64, "unknown receipt key"),
    ],
)
def test_verify_refuses_with_message_and_code(drawn: Path, args: list[str], code: int, message: str) -> None:
    """Each refusal has its exit code, message and hint, and no result."""
    done = run(drawn, "verify", "receipt", *args)

    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "drawwell: hint: " in done.stderr


def test_a_file_that_is_not_a_receipt_is_refused(drawn: Path) -> None:
    """Another file is an error."""
    done = run(drawn, "verify", "drawn.bin", "--key", "receipt-key.pem")

    assert (done.returncode, done.stdout) == (76, "")
    assert "not a receipt" in done.stderr


def test_show_reports_that_nothing_was_verified(drawn: Path) -> None:
    """A shown receipt is marked as not verified."""
    done = run(drawn, "show", "receipt")

    assert done.returncode == 0
    assert "signature  not verified" in done.stdout
    assert "broker größe-1, for consumer web01" in done.stdout


def test_date_beyond_the_calendar_is_shown_as_seconds(drawn: Path) -> None:
    """A date beyond the calendar is shown in seconds."""
    body = ReceiptBody.of(
        broker="b",
        consumer="c",
        sources=(),
        draw_class=DrawClass.DRBG,
        serial=1,
        time=2**62,
        data=b"",
        key=KEY,
    )
    (drawn / "far").write_bytes(SIGNER.sign(body))

    assert f"{2**62} s after 1970" in run(drawn, "show", "far").stdout


@pytest.fixture
def mixed_draw(drawn: Path) -> Path:
    """Return the files of a draw that mixes bytes of two brokers."""
    other = ReceiptSigner(receipt_key_from_seed(b"\1" * 32))
    grants = []
    for place, signer in enumerate((SIGNER, other)):
        data, key = bytes([place + 3]) * 50, bytes([place + 7]) * 32
        body = ReceiptBody.of(
            broker=f"well-{place}", consumer="web01", sources=(), draw_class=DrawClass.DRBG,
            serial=5, time=1_800_000_000.0, data=data, key=key,
        )  # fmt: skip
        grants.append(Grant(data, 5, DrawClass.DRBG, signer.sign(body), key))
    grant = mixed(grants)
    files = {
        "mixed": grant.receipt, "mixed.key": grant.receipt_key, "mixed.bin": grant.data,
        "keys.pem": SIGNER.public_key + other.public_key,
    }  # fmt: skip
    files["twice"] = b"\n".join([grant.receipt.split(b"\n")[0]] * 2)
    for name, content in files.items():
        (drawn / name).write_bytes(content)
    return drawn


def test_the_receipt_of_a_mixed_draw_names_all_parts(mixed_draw: Path) -> None:
    """Each line is verified with its broker's key and its part of the bytes."""
    done = run(mixed_draw, "verify", "mixed", "--key", "keys.pem", "--data", "mixed.bin", "--json")

    parts = json.loads(done.stdout)["mixed"]
    assert [(each["body"]["broker"], each["signature"], each["data"]) for each in parts] == [
        ("well-0", "verified", "matches"),
        ("well-1", "verified", "matches"),
    ]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["mixed", "--key", "receipt-key.pem"], 77, "signature is wrong"),
        (
            ["mixed", "--key", "keys.pem", "--data", "drawn.bin"],
            64,
            "key does not fit a receipt for 200 bytes",
        ),
        (["mixed", "--key", "keys.pem", "--data", "other.bin"], 77, "the receipt is for other data"),
        (["twice", "--key", "keys.pem"], 77, "contains the same grant twice"),
    ],
    ids=["one key for two", "other length", "other bytes", "one receipt twice"],
)
def test_a_mixed_receipt_is_refused(mixed_draw: Path, args: list[str], code: int, message: str) -> None:
    """A wrong key, wrong bytes and a repeated line are errors."""
    (mixed_draw / "other.bin").write_bytes(bytes(50))
    (mixed_draw / "other.bin.key").write_bytes(bytes(114))
    done = run(mixed_draw, "verify", *args)

    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
