"""The table of drivers agrees with the drivers."""

from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.config.broker_side import SourceSection
from drawwell.config.drivers import DEVICES, DRIVER_OF, DRIVERS, ONLY_FOR
from drawwell.config.fields import settings
from drawwell.onerng.usb import USB_ID
from drawwell.roles.make_driver import make_driver

SETTINGS = {each.key for each in settings(SourceSection)}
SECTION = SourceSection(name="a", path="/dev/null", command=("true",), min_entropy=1.0)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_driver_is_made_under_its_name(name: str) -> None:
    """The module of an entry makes a driver of the same name."""
    driver, claim = make_driver(replace(SECTION, driver=name))
    assert (driver.identity.kind, driver.identity.name) == (name, "a")
    assert (claim.min_entropy, claim.bits) == (1.0, DRIVERS[name].one_bit_samples)


def test_the_settings_of_drivers_are_settings() -> None:
    """An entry has settings of [[source]] only, and requires some of its own."""
    assert ONLY_FOR.keys() <= SETTINGS
    assert all(set(kind.required) <= set(kind.settings) for kind in DRIVERS.values())


def test_a_device_has_one_driver() -> None:
    """No two drivers read the same device; each has a hint for a missing node."""
    assert len(DEVICES) == sum(len(kind.usb) for kind in DRIVERS.values())
    assert DRIVER_OF.keys() == set(DEVICES.values())
    assert all(kind.without_node for kind in DRIVERS.values() if kind.usb)
    assert DEVICES[USB_ID] == "OneRNG"


def test_the_names_of_drivers_stand_in_one_table() -> None:
    """No module compares with the name of a driver, but reads its entry."""
    source = Path(__file__).parents[3] / "src" / "drawwell"
    modules = [path for path in source.rglob("*.py") if "guests" not in path.parts]
    compared = [f'{sign} "{name}"' for name in DRIVERS for sign in ("==", "!=", "case")]
    assert [path.name for path in modules if any(each in path.read_text() for each in compared)] == []
