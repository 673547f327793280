"""Settings and names of detected devices."""

import pytest

from drawwell.config.load import load
from drawwell.config.model import Config
from drawwell.drivers.discovery import UsbDevice
from drawwell.errors import SourceUnavailable
from drawwell.roles.make_driver import make_driver, source_by_node, source_by_stable_name

PORT = "pci-0000:00:14.0-usb-0:1.2"
OTHER_PORT = "pci-0000:00:14.0-usb-0:1.3"


def device(kind: str = "OneRNG", path: str = "/dev/ttyACM7", port: str = PORT) -> UsbDevice:
    return UsbDevice(kind, "0000:0000", path, port, port.rpartition(":")[2], "cdc_acm")


def config(folder, text: str = "") -> Config:
    (folder / "drawwell.toml").write_text(text)
    return load(str(folder / "drawwell.toml"))


def test_an_unconfigured_onerng_is_named_after_its_port(folder) -> None:
    """Two sticks are named by their ports, whatever their nodes."""
    both = (device(), device(path="/dev/ttyACM0", port=OTHER_PORT))
    found = [source_by_stable_name(config(folder), port, both) for port in (PORT, OTHER_PORT)]
    assert [(each.name, each.path) for each in found] == [
        ("onerng-pci-0000-00-14.0-usb-0-1.2", "/dev/ttyACM7"),
        ("onerng-pci-0000-00-14.0-usb-0-1.3", "/dev/ttyACM0"),
    ]
    assert make_driver(found[0])[0].identity.kind == "onerng"


def test_a_source_that_is_configured_at_that_node_is_the_one(folder) -> None:
    """Name and settings come from the [[source]], by any link to the node."""
    (folder / "by-path").symlink_to("/dev/ttyACM7")
    settings = config(
        folder, f'[[source]]\nname = "attic"\npath = "{folder}/by-path"\nverify_firmware = "report"\n'
    )
    for found in (
        source_by_stable_name(settings, PORT, (device(),)),
        source_by_node(settings, "/dev/ttyACM7", (device(),)),
    ):
        assert (found.name, found.verify_firmware) == ("attic", "report")


def test_settings_for_any_onerng_are_taken_and_the_name_while_there_is_one(folder) -> None:
    """A [[source]] without path is for any stick; several get their ports."""
    settings = config(folder, '[[source]]\nname = "stick"\nverify_firmware = "report"\nmin_entropy = 5.0\n')
    alone = source_by_stable_name(settings, PORT, (device(), device("TrueRNG", "/dev/ttyACM8", OTHER_PORT)))
    assert (alone.name, alone.verify_firmware, alone.min_entropy) == ("stick", "report", 5.0)
    one_of_two = source_by_stable_name(settings, PORT, (device(), device(path="/dev/x", port=OTHER_PORT)))
    assert (one_of_two.name, one_of_two.min_entropy) == ("stick-pci-0000-00-14.0-usb-0-1.2", 5.0)


@pytest.mark.parametrize(
    ("kind", "name"), [("TrueRNG", "truerng"), ("NeuG", "neug"), ("TrueRNGpro V2", "truerngprov2")]
)
def test_other_devices_are_read_as_they_are(folder, kind: str, name: str) -> None:
    """Other devices use the character-device driver and a cautious claim."""
    found = source_by_stable_name(config(folder), PORT, (device(kind),))
    assert (found.driver, found.min_entropy, found.path) == ("chardev", 4.0, "/dev/ttyACM7")
    assert found.name == f"{name}-pci-0000-00-14.0-usb-0-1.2"


def test_what_is_not_there_or_has_no_node_is_said(folder) -> None:
    """An empty port, or a device without a node, gives an error with a hint."""
    with pytest.raises(SourceUnavailable, match=f"no noise device is plugged in at {PORT}"):
        source_by_stable_name(config(folder), PORT, ())
    with pytest.raises(SourceUnavailable, match=r"the Infinite Noise at .* has no node") as refused:
        source_by_stable_name(config(folder), PORT, (device("Infinite Noise", ""),))
    assert "package infnoise" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("samples", "bits"), [("", False), ('samples = "bytes"\n', False), ('samples = "packed-bits"\n', True)]
)
def test_any_source_of_packed_bits_has_the_tests_of_bits(folder, samples: str, *, bits: bool) -> None:
    """The setting decides, or without it the driver."""
    text = f'[[source]]\ndriver = "chardev"\npath = "/dev/null"\nmin_entropy = 6.0\n{samples}'
    (section,) = config(folder, text).sources
    assert make_driver(section)[1].bits is bits


def test_an_unknown_node_is_taken_for_a_onerng(folder) -> None:
    """For a simulated stick, the name is that of the node, truncated."""
    found = source_by_node(config(folder), f"/tmp/{'x' * 80}", ())
    assert found.driver == "onerng"
    assert len(found.name) == 63
