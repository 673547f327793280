"""The systemd units: complete, hardened, consistent with the program."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from drawwell.cli.fleet.setting_up import _DROP_IN_TEXT
from drawwell.cli.parser import parse
from drawwell.errors import UsageError

UNITS = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
MOST_EXPOSED = {
    "drawwell-source@.service": 0.8,
    "drawwell-named@.service": 0.8,
    "drawwell-broker.service": 1.2,
    "drawwell-link.service": 1.2,
    "drawwell-kernel.service": 1.5,
    "drawwell-seeded.service": 0.8,
    "drawwell-signer.service": 1.0,
}
"""`systemd-analyze security`, from 0 (fully restricted) to 10."""
SERVICES = sorted(UNITS.glob("*.service"))
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


def named(path: Path) -> str:
    return path.name


def settings(unit: Path, name: str) -> list[str]:
    """Return every value of a setting, in order."""
    return re.findall(rf"^{re.escape(name)}=(.*)$", unit.read_text(), flags=re.MULTILINE)


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES, ids=named)
def test_a_service_is_exposed_as_little_as_is_said(unit: Path) -> None:
    """`systemd-analyze security` rates each service as promised or better."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"./{unit.name}"],
        cwd=UNITS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSED[unit.name], done.stdout


@needs_systemd
def test_systemd_has_nothing_to_say_of_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` is silent, with a substitute for our program."""
    for source in UNITS.iterdir():
        if source.is_dir():
            shutil.copytree(source, tmp_path / source.name)
        elif source.suffix in {".service", ".socket", ".target"}:
            text = source.read_text().replace("/usr/bin/drawwell", "/bin/true")
            (tmp_path / source.name).write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    (tmp_path / "drawwell-broker.service.d").mkdir()
    (tmp_path / "drawwell-broker.service.d/fleet.conf").write_text(_DROP_IN_TEXT)
    names = [path.name.replace("@.", "@stick.") for path in tmp_path.iterdir() if path.is_file()]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(f"./{name}" for name in sorted(names))],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "drawwell" in line]
    assert (ours, done.returncode) == ([], 0)


@pytest.mark.parametrize("unit", SERVICES, ids=named)
def test_a_service_starts_a_command_that_exists(unit: Path) -> None:
    """The program accepts the command line of each unit."""
    assert len(settings(unit, "ExecStart")) == 1
    for setting in ("ExecStart", "ExecStartPost", "ExecReload", "ExecCondition"):
        for command in settings(unit, setting):
            program, *arguments = command.lstrip("-+").split()
            assert program in {"/usr/bin/drawwell", "/bin/kill"}
            if program == "/usr/bin/drawwell":
                try:
                    parse(
                        [
                            each.replace("%I", "pci-0000:00:14.0-usb-0:2").replace("$MAINPID", "1")
                            for each in arguments
                        ]
                    )
                except UsageError as error:
                    pytest.fail(str(error))


@pytest.mark.parametrize("unit", SERVICES, ids=named)
def test_bytes_in_memory_stay_there(unit: Path) -> None:
    """No service dumps core or is swapped, and each has a watchdog."""
    assert settings(unit, "LimitCORE") == ["0"]
    assert settings(unit, "MemorySwapMax") == ["0"]
    if unit.stem in {"drawwell-broker", "drawwell-signer"}:
        assert settings(unit, "LimitMEMLOCK") == ["infinity"]
    if settings(unit, "Type") == ["notify"]:
        assert settings(unit, "WatchdogSec")
        assert "78" in settings(unit, "RestartPreventExitStatus")[0].split()


def test_the_kernels_feed_never_meets_the_network() -> None:
    """One unit has CAP_SYS_ADMIN, and it has only Unix sockets."""
    holders = {
        unit.name for unit in SERVICES if "CAP_SYS_ADMIN" in " ".join(settings(unit, "CapabilityBoundingSet"))
    }
    assert holders == {"drawwell-kernel.service"}
    kernel = UNITS / "drawwell-kernel.service"
    assert settings(kernel, "PrivateNetwork") == ["yes"]
    assert settings(kernel, "RestrictAddressFamilies") == ["AF_UNIX"]


def test_every_socket_is_one_that_its_service_takes() -> None:
    """Each socket unit names an existing service and file descriptor."""
    taken = {"unix", "control", "source", "link", "copies", "signer"}
    for unit in UNITS.glob("*.socket"):
        assert set(settings(unit, "FileDescriptorName")) <= taken
        [service] = settings(unit, "Service")
        wanted = settings(UNITS / service, "Requires") + settings(UNITS / service, "Wants")
        assert unit.name in " ".join(wanted).split()


def test_every_user_of_a_service_is_made() -> None:
    """sysusers.d creates the users and groups of the units."""
    made = set(re.findall(r"^u (\S+)", (UNITS / "drawwell.sysusers.conf").read_text(), flags=re.MULTILINE))
    for unit in SERVICES:
        assert set(settings(unit, "User") + settings(unit, "Group")) <= made
    for unit in UNITS.glob("*.socket"):
        assert set(settings(unit, "SocketGroup")) <= made


def test_who_may_look_opens_no_device() -> None:
    """The group of status readers can open neither devices nor source sockets."""
    [watched] = settings(UNITS / "drawwell-broker-control.socket", "SocketGroup")
    rules = (UNITS.parent / "udev/60-drawwell.rules").read_text()
    [devices] = set(re.findall(r'GROUP="([^"]+)"', rules))
    assert watched != devices
    assert settings(UNITS / "drawwell-broker-source.socket", "SocketGroup") == [devices]
    for name in ("drawwell-source@.service", "drawwell-named@.service"):
        assert settings(UNITS / name, "Group") == [devices]
