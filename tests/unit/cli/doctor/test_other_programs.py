"""Other programs that are installed, hold a device or feed the kernel."""

from pathlib import Path

import pytest

from drawwell.cli.doctor.other_programs import Rival, rivals
from drawwell.cli.doctor.surroundings import reserved

INSTALLED = """Package: rng-tools-debian
Status: install ok installed
Version: 2.3
Description: a daemon
 Package: haveged
 Status: install ok installed

Package: haveged
Status: deinstall ok config-files
Version: 1.9

"""


def machine(root: Path) -> Path:
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(INSTALLED)
    (root / "proc").mkdir()
    return root


def process(root: Path, pid: int, name: str, *nodes: str, children: str = "") -> None:
    folder = root / "proc" / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "task" / str(pid)).mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "task" / str(pid) / "children").write_text(children)
    for number, node in enumerate(nodes):
        (folder / "fd" / str(number)).symlink_to(node)


def test_an_installed_package_that_is_not_running(tmp_path) -> None:
    """An installed package is listed with its version; a removed one is not."""
    assert rivals(str(machine(tmp_path))) == (Rival("rngd", "rng-tools-debian", "2.3", (), (), feeds=False),)


def test_a_program_that_holds_and_feeds(tmp_path) -> None:
    """A running rngd is reported with its device and as feeding the kernel."""
    process(machine(tmp_path), 41, "rngd", "/dev/null", "/dev/hwrng", "/dev/random")
    (found,) = rivals(str(tmp_path))
    assert found == Rival("rngd", "rng-tools-debian", "2.3", (41,), ("/dev/hwrng",), feeds=True)
    assert "has /dev/hwrng open, feeds the kernel" in found.text


def test_the_vendors_script_without_its_package(tmp_path) -> None:
    """The script is found through its process, with the files of its child dd."""
    process(machine(tmp_path), 50, "onerng.sh", "/dev/null", children="51 ")
    process(tmp_path, 51, "dd", "/dev/ttyACM0", "/dev/random")
    found = {each.program: each for each in rivals(str(tmp_path))}
    assert found["onerng.sh"] == Rival("onerng.sh", "", "", (50,), ("/dev/ttyACM0",), feeds=True)


def test_a_machine_without_dpkg(tmp_path) -> None:
    """Without dpkg there is no result and no error."""
    assert rivals(str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("kept", "port", "expected"),
    [
        ("", 55000, False),
        ("", 443, True),
        ("55000-55001", 55000, True),
        ("8080,55000", 55000, True),
        ("8080,40000-50000", 55000, False),
    ],
)
def test_reserved_ports(tmp_path, kept: str, port: int, expected: bool) -> None:
    """A port is safe if it is outside the range or on the reserved list."""
    folder = tmp_path / "proc/sys/net/ipv4"
    folder.mkdir(parents=True)
    (folder / "ip_local_port_range").write_text("32768\t60999\n")
    (folder / "ip_local_reserved_ports").write_text(f"{kept}\n")
    assert reserved(port, str(tmp_path)) is expected


def test_a_program_of_a_container_is_not_this_machine_s(tmp_path: Path) -> None:
    """A process in another PID namespace is not reported."""
    root = machine(tmp_path)
    process(root, 7, "haveged")
    for place, namespace in (("self", "pid:[1]"), ("7", "pid:[2]")):
        (root / "proc" / place / "ns").mkdir(parents=True)
        (root / "proc" / place / "ns" / "pid").symlink_to(namespace)
    assert not [each for each in rivals(str(root)) if each.program == "haveged" and each.pids]
