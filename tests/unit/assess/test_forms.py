"""Files of samples in users' formats."""

import numpy as np
import pytest

from drawwell.assess.forms import read_as
from drawwell.assess.text import kind_of_text
from drawwell.errors import BadData, UsageError
from drawwell.testing.sick import good

NOISE = good(7).read(2000)
BITS = "".join("01"[byte & 1] for byte in NOISE)
COLUMN = "\n".join(map(str, NOISE))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NOISE.hex(), "hexadecimal digits"),
        ("\n".join(f"0x{byte:02X}" for byte in NOISE), "hexadecimal digits"),
        (BITS, "zeros and ones as characters"),
        (COLUMN, "a column of numbers"),
        ("\n".join(f"{at},{byte}" for at, byte in enumerate(NOISE)), "comma-separated values"),
        (
            "time,noise\n" + "\n".join(f"{at}.5,{byte}" for at, byte in enumerate(NOISE)),
            "comma-separated values",
        ),
        ("The quick brown fox. " * 20, "characters"),
    ],
)
def test_text_is_recognised_and_refused_unasked(text: str, kind: str) -> None:
    """Text is not assessed until its format is given."""
    assert kind_of_text(text.encode()) == kind
    with pytest.raises(BadData, match="is text") as caught:
        read_as(None, text.encode(), "f.txt")
    assert "--format" in str(caught.value.hint)


@pytest.mark.parametrize("data", [NOISE, bytes(byte & 15 for byte in NOISE), b"\0\1" * 500, b"text"])
def test_samples_are_no_text(data: bytes) -> None:
    """Noise, narrow samples, single bits and short data do not count as text."""
    assert read_as(None, data, "f").data == data


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("hex", NOISE.hex(" "), NOISE),
        ("hex", ", ".join(f"0x{byte:02x}" for byte in NOISE), NOISE),
        ("bits", BITS, bytes(byte & 1 for byte in NOISE)),
        ("column", COLUMN, NOISE),
        ("column", "-1\n0\n2\n", b"\0\1\3"),
        ("csv:2", "\n".join(f"{at},{byte}" for at, byte in enumerate(NOISE)), NOISE),
        ("csv:noise", 'time,"noise"\n1.5,3\n2.5,4\n', b"\3\4"),
        ("bytes", "abc", b"abc"),
    ],
)
def test_each_form_is_read_as_what_it_is(form: str, text: str, expected: bytes) -> None:
    """Each format is read as one sample per byte."""
    assert read_as(form, text.encode(), "f").data == expected


def test_wide_samples_keep_the_eight_bits_that_vary_most() -> None:
    """Of 16 bits, the eight noisy ones in the middle are kept and reported."""
    wide = (np.frombuffer(NOISE, dtype=np.uint8).astype(np.uint16) << 4) | 1
    read = read_as("u16le", wide.tobytes(), "f")
    assert read.data == NOISE
    assert "4, 5, 6, 7, 8, 9, 10, 11" in read.how
    assert read_as("u16be", wide.byteswap().tobytes(), "f").data == NOISE


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("bits", "0102", "characters other"),
        ("csv:3", "1,2\n", "no column 3"),
        ("csv:2", "1,2\n3\n", "a line has no column 2"),
        ("column", "1\nx\n", "not in the format column"),
        ("column", "", "no numbers"),
        ("u16le", "abc", "not a multiple of the sample size, 2 bytes"),
    ],
)
def test_another_form_than_the_one_said_is_named(form: str, text: str, message: str) -> None:
    """The error names the part that does not match the format."""
    with pytest.raises(BadData, match=message):
        read_as(form, text.encode(), "f")


@pytest.mark.parametrize("form", ["octal", "csv", "hex:2"])
def test_an_unknown_form_is_a_usage_error(form: str) -> None:
    """The hint lists the formats."""
    with pytest.raises(UsageError, match="unknown format"):
        read_as(form, b"x", "f")
