"""Reading the configuration: arbitrary input."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.config.load import load
from drawwell.errors import ConfigError
from support.configurations import ROOT, load_text

# ---- any input at all


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one file that is rewritten repeatedly."""
    return tmp_path_factory.mktemp("fuzz") / "test.toml"


def _loads_or_refuses(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    try:
        config = load(str(file), machine=ROOT)
    except ConfigError:
        return
    assert config.files == (str(file),)


@given(st.binary(max_size=200))
def test_any_bytes_load_or_are_refused(scratch: Path, data: bytes) -> None:
    """Garbage raises ConfigError and nothing else."""
    _loads_or_refuses(scratch, data)


_TOML_VALUES = st.sampled_from(
    [
        *("1", "-1", "0.5", "nan", "inf", "1e400", "9" * 300, "0x" + "f" * 5000, "true", "1979-05-27"),
        *('""', '"x"', '"9%"', '"4KiB"', '"1/s"', f'"{"9" * 400}KiB"', '"*:1"', '"unix:///x"', '"/x"'),
        *("[]", "[1]", '["a"]', "{}", "{a=1}", "[[[]]]"),
    ]
)


_TABLES = st.sampled_from(
    ["broker", "source", "tls", "pki", "consumer", "kernel", "upstream", "sink", "broken"]
)


_SETTINGS = st.sampled_from(
    [
        "name",
        "reservoir",
        "low_mark",
        "high_mark",
        "driver",
        "path",
        "command",
        "min_entropy",
        "stall",
        "listen",
        "names",
        "ca",
        "rate",
        "quota",
        "class",
        "user",
        "feed",
        "credit",
        "interval",
        "bytes",
        "url",
        "identity",
        "kind",
        "chunk",
        "max_draw",
        "mode",
        "xyz",
    ]
)


_SECTIONS = st.tuples(_TABLES, st.booleans(), st.dictionaries(_SETTINGS, _TOML_VALUES, max_size=5)).map(
    lambda section: (
        (f"[[{section[0]}]]\n" if section[1] else f"[{section[0]}]\n")
        + "".join(f"{key} = {value}\n" for key, value in section[2].items())
    )
)


@given(st.lists(_SECTIONS, max_size=5).map("".join))
def test_any_toml_loads_or_is_refused(scratch: Path, text: str) -> None:
    """Any table, key and value gives a configuration or a ConfigError."""
    _loads_or_refuses(scratch, text.encode())


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 20_000, "a = " + "{a=" * 20_000, "[" + "a." * 1_000 + "a]\n", "#" * (2**20 + 1)]
)
def test_monsters_are_refused(scratch: Path, text: str) -> None:
    """Extreme nesting and giant files are faults."""
    with pytest.raises(ConfigError):
        load_text(scratch.parent, text)
