"""The handwritten manual pages agree with program and unit files."""

import re
from pathlib import Path

import pytest

from drawwell.config.devices import DEVICES
from drawwell.entropy.blocks import DrawClass
from drawwell.reports import Firmware, SourceState

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted(path for path in (ROOT / "packaging" / "systemd").glob("drawwell-*") if path.is_file())


def _page(name: str) -> str:
    """Return a page without font requests and escapes, one line per paragraph."""
    lines = (ROOT / "docs" / "man" / name).read_text().replace("\\", "").splitlines()
    plain = [re.sub(r"^\.(B|BR|I|IR|RI) ", "", line) for line in lines]
    return "\n".join("\n" + line if line.startswith(".") else line for line in plain)


def _entries(name: str) -> dict[str, str]:
    """Return a page's tagged paragraphs: each tag with its text."""
    tagged = re.findall(r"^\.TP\n(.+)\n((?:[^.\n].*\n)+)", _page(name) + "\n", re.MULTILINE)
    return {tag: " ".join(text.split()) for tag, text in tagged}


def _setting(unit: Path, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("kind", [DrawClass, SourceState, Firmware])
def test_drawwell_7_explains_every_value(kind: type) -> None:
    """Every class, state and firmware verdict has an entry in drawwell(7)."""
    assert {str(each) for each in kind} <= _entries("drawwell.7").keys()


def test_the_manual_has_every_known_device() -> None:
    """drawwell.toml(5) has each known device, with how it was tested."""
    section = _page("drawwell.toml.5").partition(".SH NOISE DEVICES")[2]
    for device in DEVICES.values():
        assert f"fB{device.name}fR" in section
        assert f"Basis: {device.seen}." in section


def test_drawwell_8_has_an_entry_for_every_unit() -> None:
    """drawwell(8) describes exactly the units in the package."""
    described = {tag for tag in _entries("drawwell.8") if re.search(r"\.(service|socket|target)$", tag)}
    assert described == {path.name for path in UNITS if path.suffix in {".service", ".socket", ".target"}}


@pytest.mark.parametrize("unit", [each for each in UNITS if each.suffix == ".service"], ids=lambda u: u.name)
def test_drawwell_8_states_what_a_service_may_do(unit: Path) -> None:
    """Command, user, capabilities and network match the units."""
    text = _entries("drawwell.8")[unit.name]
    command = re.sub(r" %[iI]$", "", _setting(unit, "ExecStart").removeprefix("/usr/bin/"))
    assert f"Runs {command} " in text
    assert re.search(rf"as user {_setting(unit, 'User')}\b(?!-)", text)
    capabilities = _setting(unit, "CapabilityBoundingSet")
    assert (f"with {capabilities}" if capabilities else "without capabilities") in text
    assert ("without network" in text) == (_setting(unit, "PrivateNetwork") == "yes")


@pytest.mark.parametrize("unit", [each for each in UNITS if each.suffix == ".socket"], ids=lambda u: u.name)
def test_drawwell_8_names_where_a_socket_listens(unit: Path) -> None:
    """The path of each socket matches its unit file."""
    assert _setting(unit, "ListenStream") in _entries("drawwell.8")[unit.name]
