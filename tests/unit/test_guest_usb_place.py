"""Where the kernel has the stick: by its port, or as the only one."""

from pathlib import Path

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests.usb_place import place_of


def plug(usb: Path, port: str, number: int, product: str = "6086") -> None:
    entry = usb / port
    entry.mkdir()
    for name, text in {
        "idVendor": "1d50",
        "idProduct": product,
        "busnum": "1",
        "devnum": str(number),
    }.items():
        (entry / name).write_text(f"{text}\n")


def test_a_stick_is_found_by_its_port_or_as_the_only_one(tmp_path: Path) -> None:
    """Another device beside it is none; with two sticks the port decides."""
    plug(tmp_path, "1-1", 4)
    plug(tmp_path, "1-2", 5, product="0002")
    assert place_of("", str(tmp_path)) == (1, 4)
    plug(tmp_path, "1-3", 9)
    assert place_of("1-3", str(tmp_path)) == (1, 9)
    with pytest.raises(GuestUnavailable, match="2 sticks"):
        place_of("", str(tmp_path))


@pytest.mark.parametrize("port", ["", "1-1", "../1-1"])
def test_no_stick_is_told(port: str, tmp_path: Path) -> None:
    """Neither a port with nothing in it, nor a host without USB."""
    with pytest.raises(GuestUnavailable, match="no stick"):
        place_of(port, str(tmp_path / "none"))
