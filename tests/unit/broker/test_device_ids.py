"""Identifiers of the devices behind brokers."""

from dataclasses import replace

import pytest

from drawwell.broker import devices
from drawwell.reports import SourceIdentity
from support.reports import broker_report

ONERNG = SourceIdentity("a", "onerng", "/dev/ttyACM0", stable_name="usb 1-2", hardware_id="f" * 32)
PLAIN = SourceIdentity("b", "chardev", "/dev/hwrng", stable_name="10:183")


class Gave:
    """A source that has supplied bytes, unless `epoch` is 0."""

    def __init__(self, identity: SourceIdentity, epoch: int = 1) -> None:
        self._report = replace(broker_report().sources[0], identity=identity, health_epoch=epoch)

    def report(self) -> object:
        return self._report


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return a boot ID that a test can change."""
    named = {"id": "one"}
    monkeypatch.setattr(devices, "boot_id", lambda: named["id"])
    return named


def test_a_stick_is_the_same_at_every_port_and_machine(boot: dict[str, str]) -> None:
    """A device with its own ID is identified by that ID."""
    here = devices.device_ids([Gave(ONERNG)])
    boot["id"] = "two"
    assert devices.device_ids([Gave(replace(ONERNG, name="c", stable_name="usb 3-1"))]) == here


def test_a_device_without_an_id_is_known_by_its_machine(boot: dict[str, str]) -> None:
    """The same name on another machine is a different device."""
    here = devices.device_ids([Gave(PLAIN)])
    assert devices.device_ids([Gave(replace(PLAIN, name="x"))]) == here
    boot["id"] = "two"
    assert set(devices.device_ids([Gave(PLAIN)])).isdisjoint(here)


def test_a_device_that_gave_nothing_is_not_named(boot: dict[str, str]) -> None:
    """A source that never passed its start-up tests is not listed."""
    assert boot
    assert devices.device_ids([Gave(ONERNG, epoch=0)]) == ()


def test_an_identifier_reveals_no_name(boot: dict[str, str]) -> None:
    """The identifier is a digest, and every device has one."""
    ids = devices.device_ids([Gave(ONERNG), Gave(PLAIN)])
    assert boot
    assert [len(each) for each in ids] == [32, 32]
    assert not any(ONERNG.hardware_id in each for each in ids)
