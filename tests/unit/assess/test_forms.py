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
WRAPPED = "".join(f"{byte},{' ' if at % 16 < 15 else chr(10)}" for at, byte in enumerate(NOISE))
LINES = [NOISE[at : at + 16] for at in range(0, len(NOISE), 16)]
WIDE = [int.from_bytes(NOISE[at : at + 8]) for at in range(0, len(NOISE), 8)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NOISE.hex(), "hexadecimal digits"),
        ("\n".join(f"0x{byte:02X}" for byte in NOISE), "hexadecimal digits"),
        (BITS, "zeros and ones as characters"),
        (COLUMN, "decimal numbers"),
        (", ".join(map(str, NOISE)), "decimal numbers"),
        (" ".join(map(str, NOISE)), "decimal numbers"),
        (WRAPPED, "decimal numbers"),
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
        ("column", ", ".join(map(str, NOISE)), NOISE),
        ("column", WRAPPED, NOISE),
        ("column", "\n".join(" ".join(map(str, line)) for line in LINES), NOISE),
        ("hex", ",".join(f"0x{byte:x}" for byte in NOISE), NOISE),
        ("hex", "\n".join(NOISE.hex()[at : at + 75] for at in range(0, 4000, 75)), NOISE),
        ("hex", "\n".join(line.hex(":") + ":" for line in LINES), NOISE),
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
        ("column", "1\nx\n", "not in the format column: it has cells that are not whole decimal numbers"),
        ("column", "", "no numbers"),
        ("u16le", "abc", "not a multiple of the sample size, 2 bytes"),
        ("column", str(1 << 64), "more than 64 bits"),
        ("column", f"-1\n{(1 << 64) - 1}", "more than 64 bits"),
        ("column", "\n".join(f"{at},{byte}" for at, byte in enumerate(NOISE)), "several columns"),
        ("hex", ", ".join(map(str, NOISE)), "odd number of digits"),
        ("hex", COLUMN, "odd number of digits"),
        ("hex", "7 12 99 4", "only decimal numbers"),
    ],
)
def test_another_form_than_the_one_said_is_named(form: str, text: str, message: str) -> None:
    """The error names the part that does not match the format."""
    with pytest.raises(BadData, match=message):
        read_as(form, text.encode(), "f")


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("hex", "{0:08x}: {1}"),  # xxd without its last column
        ("hex", "{0:08x}  {2} |................|"),  # hexdump -C
        ("hex", "{0:07o} {1}"),  # od -tx1, without the spaces
        ("hex", "{0:07o} {2}"),
        ("column", "{0:07o} {3}"),  # od -tu1
        ("column", "{0:07d} {3}"),  # od -Ad -tu1
        ("column", "{0:d} {3}"),
    ],
)
def test_offsets_are_no_samples(form: str, line: str) -> None:
    """Lines that begin with offsets are refused, with the command to type."""
    for lines in (LINES, LINES[:9]):
        cells = (
            (at * 16, each.hex(" ", 2), each.hex(" "), " ".join(map(str, each)))
            for at, each in enumerate(lines)
        )
        text = "\n".join(line.format(*each) for each in cells)
        for ending in ("\n", "\n0007640\n" if line.startswith("{0:07") else "\n"):
            with pytest.raises(BadData, match="begin with offsets") as caught:
                read_as(form, (text + ending).encode(), "f")
            assert "xxd -p" in str(caught.value.hint)


def test_samples_in_lines_are_no_offsets() -> None:
    """Noise in lines is read; its first cells rise only by chance."""
    for form, text in (
        ("hex", "\n".join(line.hex(" ") for line in LINES)),
        ("hex", "\n".join(line.hex(" ", 4) for line in LINES)),
        ("column", "\n".join(f"{one} {two}" for one, two in zip(NOISE[::2], NOISE[1::2], strict=True))),
        ("column", "\n".join(map(str, range(256)))),
    ):
        expected = bytes(range(256)) if text.startswith("0\n1") else NOISE
        assert read_as(form, text.encode(), "f").data == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_of_windows_is_text(encoding: str) -> None:
    """UTF-16 and UTF-8 with a BOM are text, and read in a format of text."""
    data = (
        f"noise in µV,{'x' * 64}\n{COLUMN}".encode(encoding)
        if encoding == "utf-16"
        else COLUMN.encode(encoding)
    )
    assert kind_of_text(data)
    with pytest.raises(BadData, match="is text"):
        read_as(None, data, "f")
    assert read_as("csv:1" if encoding == "utf-16" else "column", data, "f").data == NOISE


@pytest.mark.parametrize("samples", [WIDE, [each - (1 << 63) for each in WIDE]])
def test_numbers_of_64_bits_are_read(samples: list[int]) -> None:
    """Numbers of 64 bits, with or without a sign, keep eight of their bits."""
    read = read_as("column", "\n".join(map(str, samples)).encode(), "f")
    assert len(read.data) == len(samples)
    assert "64-bit samples" in read.how


@pytest.mark.parametrize("form", ["octal", "csv", "hex:2"])
def test_an_unknown_form_is_a_usage_error(form: str) -> None:
    """The hint lists the formats."""
    with pytest.raises(UsageError, match="unknown format"):
        read_as(form, b"x", "f")
