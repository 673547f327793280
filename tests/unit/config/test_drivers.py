"""The table of drivers agrees with the drivers."""

from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.config.broker_side import SourceSection
from drawwell.config.devices import DEVICES, DeviceKind, generator_kind, usb_kind
from drawwell.config.drivers import DRIVERS, ONLY_FOR, hint_without_node
from drawwell.config.fields import settings
from drawwell.config.load import load
from drawwell.onerng.usb import USB_ID
from drawwell.roles.make_driver import make_driver

SETTINGS = {each.key for each in settings(SourceSection)}
SECTION = SourceSection(name="a", path="/dev/null", command=("true",), min_entropy=1.0)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_is_made_under_its_name(name: str) -> None:
    """The module of an entry creates a driver with the same name."""
    driver, claim = make_driver(replace(SECTION, driver=name))
    assert (driver.identity.kind, driver.identity.name) == (name, "a")
    assert (claim.min_entropy, claim.bits) == (1.0, DRIVERS[name].one_bit_samples)


def test_the_settings_of_drivers_are_settings() -> None:
    """An entry has only settings of [[source]], and requires only its own."""
    assert ONLY_FOR.keys() <= SETTINGS
    assert all(set(kind.required) <= set(kind.settings) for kind in DRIVERS.values())


@pytest.mark.parametrize("kind", DEVICES.values(), ids=DEVICES)
def test_the_section_of_a_device_is_a_configuration(tmp_path: Path, kind: DeviceKind) -> None:
    """The section that doctor prints for a device loads and makes its driver."""
    file = tmp_path / "drawwell.toml"
    file.write_text(kind.section("" if kind.command else "/dev/null") + "\n")
    (section,) = load(str(file)).sources
    driver, claim = make_driver(section)
    assert (driver.identity.kind, claim.min_entropy) == (kind.driver, kind.min_entropy)
    assert (section.command, section.manner, section.start) == (kind.command, kind.manner, kind.start)


def test_a_device_is_one_kind() -> None:
    """A USB ID has one kind, with a node or a program that reads it."""
    numbers = [usb_id for kind in DEVICES.values() for usb_id in kind.usb]
    assert len(numbers) == len(set(numbers))
    for kind in DEVICES.values():
        assert bool(kind.node) != bool(kind.command)
        assert bool(kind.command) == bool(kind.package)
        assert not kind.usb or kind.module or kind.package
        assert hint_without_node(kind)
    assert DEVICES["OneRNG"].usb == (USB_ID,)


def test_a_cable_with_the_chip_of_a_device_is_no_device() -> None:
    """0403:6015 alone is any cable; Infinite Noise has its own product string."""
    assert usb_kind("0403:6015", "FT230X Basic UART") is None
    for usb_id, product in (("0403:6015", "Infinite Noise TRNG"), ("1209:3701", "")):
        kind = usb_kind(usb_id, product)
        assert kind
        assert kind.name == "Infinite Noise"


@pytest.mark.parametrize(
    ("current", "name"),
    [("tpm-rng-0", "TPM"), ("virtio_rng.0", "virtio-rng"), ("bcm2835", "board's generator")],
)
def test_a_generator_behind_hwrng_is_one_kind(current: str, name: str) -> None:
    """The start of the driver's name decides; unlisted ones are boards."""
    assert generator_kind(current).name == name


def test_the_names_of_drivers_stand_in_one_table() -> None:
    """No module compares driver names; all read the driver's entry."""
    source = Path(__file__).parents[3] / "src" / "drawwell"
    modules = [path for path in source.rglob("*.py") if "guests" not in path.parts]
    compared = [f'{sign} "{name}"' for name in DRIVERS for sign in ("==", "!=", "case")]
    assert [path.name for path in modules if any(each in path.read_text() for each in compared)] == []
