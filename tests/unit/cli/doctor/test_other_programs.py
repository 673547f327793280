"""Other programs that are installed, hold a device or feed the kernel."""

from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.cli.doctor import other_programs
from drawwell.cli.doctor.other_programs import Rival, in_the_way, readers, rivals
from drawwell.cli.doctor.surroundings import others, reserved
from drawwell.cli.migrate import _sentences
from drawwell.config.load import load

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


def test_the_program_that_reads_a_device_is_kept(tmp_path: Path) -> None:
    """A source's program is in the way only if it feeds the kernel."""
    names = ("infnoise", "ekeyd", "haveged", "rngd")
    for pid, name in enumerate(names, 60):
        process(tmp_path, pid, name, "/dev/ttyACM0")
    process(tmp_path, 70, "infnoise", "/dev/random")
    (tmp_path / "c.toml").write_text(
        '[[source]]\ndriver = "exec"\ncommand = ["/usr/sbin/haveged", "-n", "0"]\nmin_entropy = 1\n'
    )
    found = rivals(str(tmp_path))
    for config, left in (
        (None, {"infnoise", "haveged", "rngd"}),
        (load(str(tmp_path / "c.toml")), {"infnoise", "rngd"}),
    ):
        assert {each.program for each in in_the_way(found, readers(config))} == left
    quiet = [replace(each, feeds=False) for each in found]
    assert {each.program for each in in_the_way(quiet, readers(None))} == {"haveged", "rngd"}


def test_doctor_never_advises_to_remove_a_sources_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source's program is kept; migrate is named only for what it reads."""
    found = [
        Rival(each, each, "1", (7,), (), feeds=True) for each in ("infnoise", "ekeyd", "haveged", "rngd")
    ]
    monkeypatch.setattr(other_programs, "rivals", lambda: tuple(found))
    hints = {each.subject: each.hint for each in others(None)}
    assert {each for each, hint in hints.items() if "Remove the program" in hint} == {"haveged", "rngd"}
    assert {each for each, hint in hints.items() if "drawwell migrate" in hint} == {"rngd"}
    shown = dict(zip(hints, _sentences(found, readers(None)), strict=True))
    assert {each for each, sentence in shown.items() if "apt remove" in sentence} == {"haveged", "rngd"}


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
