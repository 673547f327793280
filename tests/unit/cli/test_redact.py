"""cli/redact: data that a bug report must not contain."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.cli.redact import masked

KEY = bytes(range(7, 39))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"got {KEY.hex()} here", KEY.hex()),
        (f"got {KEY.hex(':')}.", KEY.hex(":")),
        (f"key={base64.b64encode(KEY).decode()}", base64.b64encode(KEY).decode()),
        ("-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n", "MIGH"),
        ("-----BEGIN EC PRIVATE KEY-----\ncut off", "cut off"),
        ("drawwell join dw1.well:55001.ab.cd.ef", "well:55001"),
        ("url = ssh://me:hunter2@well", "hunter2"),
        ('command = ["reader", "--password=hunter2"]', "hunter2"),
        ("API_KEY: hunter2", "hunter2"),
        ('{"token": "hunter2"}', "hunter2"),
        ('password = "correct horse"', "horse"),
    ],
)
def test_secrets_are_masked(text: str, secret: str) -> None:
    """Keys, tokens and passwords are removed."""
    assert secret not in masked(text)
    assert "[masked]" in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "pci-0000:00:14.0-usb-0:1.2 at /dev/ttyACM0",
        "/usr/lib/python3/dist-packages/drawwell/cli/report_bug.py",
        "2026-11-23T18:24:40+0000 vm drawwell[1234]: source onerng: healthy",
        "SSL: CERTIFICATE_VERIFY_FAILED, 1234567890 draws",
        "state_dir = /var/lib/drawwell",
        "raw_bytes: 123456789012345678901234567890",
    ],
)
def test_what_a_report_is_made_of_stays(text: str) -> None:
    """Names, paths, times and counts stay in the report."""
    assert masked(text) == text


@given(st.binary(min_size=32, max_size=64))
def test_no_drawn_bytes_come_through(data: bytes) -> None:
    """Drawn bytes in hexadecimal are removed."""
    assert data.hex() not in masked(f"drawn: {data.hex()}") or data.hex().isdecimal()
