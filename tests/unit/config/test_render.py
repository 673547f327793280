"""The configuration as text: sample file, `config show`, documentation."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.config.defaults import HostFacts
from drawwell.config.fields import Setting, settings
from drawwell.config.load import load
from drawwell.config.model import TABLES, Config
from drawwell.config.render import as_document, sample, shown
from drawwell.config.values import Text, write_text

MACHINE = HostFacts("well", 0, "/root", {}, {"www-data": 33}.get)
EVERY_SETTING = [
    pytest.param(each, id=f"{table.name}.{each.key}") for table in TABLES for each in settings(table.section)
]
FULL = """\
[broker]
low_mark = "100000"
reseed_interval = 90.5
[[source]]
[[source]]
name = "hw"
driver = "chardev"
path = "/dev/hwrng"
min_entropy = 0.1
[[source]]
driver = "exec"
command = ["/bin/x", "a b", "\\"ü"]
min_entropy = 1
[health]
listen = "[::1]:80"
[tls]
listen = "*:55000"
names = ["a.example", "::1"]
[[consumer]]
name = "web01"
rate = "1537B/s"
quota = "10MiB/1.5s"
user = "www-data"
[kernel]
credit = 0.25
[[upstream]]
url = "unix:///run/x"
[[upstream]]
url = "tls://b.example:55000"
[[sink]]
kind = "stdout"
[[sink]]
kind = "fifo"
path = "/run/y"
"""


def _load(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "test.toml"
    file.write_text(text)
    return load(str(file), machine=MACHINE)


@pytest.mark.parametrize("each", EVERY_SETTING)
def test_examples_and_samples_are_valid(each: Setting) -> None:
    """Every setting accepts its own example and sample."""
    for text in (each.example, each.sample):
        value = each.kind.parse(tomllib.loads(f"value = {text}")["value"])
        assert each.kind.parse(tomllib.loads(f"value = {each.kind.write(value)}")["value"]) == value


def test_sample_is_a_good_configuration(tmp_path: Path) -> None:
    """The sample file, unchanged, equals the defaults."""
    default = replace(load(None, directory=str(tmp_path / "none"), machine=MACHINE), files=())
    assert replace(_load(tmp_path, sample()), files=()) == default


def test_sample_without_its_comment_signs_names_every_setting() -> None:
    """Uncommented, it is valid TOML with every table and every key."""
    tables = tomllib.loads(re.sub(r"^#(?=\[|\w+ = )", "", sample(), flags=re.MULTILINE))
    assert list(tables) == [table.name for table in TABLES]
    for table in TABLES:
        section = tables[table.name][0] if table.many else tables[table.name]
        assert list(section) == [each.key for each in settings(table.section)]
        for each in settings(table.section):
            each.kind.parse(section[each.key])


@pytest.mark.parametrize("text", ["", FULL, '[[upstream]]\nurl = "unix:///run/x"\n'])
@pytest.mark.parametrize("origin", [False, True])
def test_shown_configuration_reads_back_as_the_same(tmp_path: Path, text: str, origin: bool) -> None:
    """The output of config show is a file with the same meaning."""
    config = _load(tmp_path, text)
    assert _load(tmp_path, shown(config, origin=origin)) == config


def test_origins_are_shown(tmp_path: Path) -> None:
    """With --origin each value shows its line, or that it is a default."""
    config = _load(tmp_path, '[kernel]\nfeed = true\n\n[[source]]\nname = "x"\n')
    lines = [re.sub(r" +", " ", line) for line in shown(config, origin=True).splitlines()]
    assert f"feed = true # {tmp_path}/test.toml:2" in lines
    assert f"[[source]] # {tmp_path}/test.toml:4" in lines
    assert 'driver = "onerng" # default' in lines


def test_document_holds_plain_values_and_origins(tmp_path: Path) -> None:
    """JSON has every value as in the file, or null if it is not set."""
    config = _load(tmp_path, FULL)
    document = as_document(config)
    assert document["consumer"][0]["rate"] == "1537B/s"
    assert document["source"][2]["command"] == ["/bin/x", "a b", '"ü']
    assert document["source"][0].get("loop", "nothing") == "nothing"
    assert document["sink"][0]["path"] is None
    origin = as_document(config, origin=True)["kernel"]["credit"]
    assert origin == {"value": 0.25, "origin": f"{tmp_path}/test.toml:25"}


@given(st.text(st.characters(exclude_categories=())))
def test_every_text_reads_back_as_it_was_written_or_is_refused(text: str) -> None:
    """Text that TOML cannot represent is refused when written and when read."""
    try:
        written = write_text(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"not UTF-8|control character"):
            Text(r"(?s:.*)").parse(text)
    else:
        assert tomllib.loads(f"value = {written}") == {"value": text}
