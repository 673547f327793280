"""The devices that ``drawwell source list`` shows as in use."""

from pathlib import Path

import pytest

from drawwell.cli.source import in_use
from drawwell.config.devices import DEVICES, DeviceKind
from drawwell.config.load import load
from drawwell.drivers.discovery import UsbDevice

READERS = [kind for kind in DEVICES.values() if kind.usb and kind.reader]


@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.name)
def test_a_device_that_a_running_program_reads_is_in_use(tmp_path: Path, kind: DeviceKind) -> None:
    """A source counts only while it is on; another kind of device never."""
    (tmp_path / "c.toml").write_text(kind.section())
    config = load(str(tmp_path / "c.toml"))
    device, other = (UsbDevice(name, "", "", "", "1-2", "") for name in (kind.name, "OneRNG"))
    source = {
        "identity": {"name": config.sources[0].name, "path": kind.command[0]},
        "state": "healthy",
    }
    assert in_use(config, [source], [device, other]) == {device}
    assert in_use(config, [source | {"state": "off"}], [device, other]) == set()
