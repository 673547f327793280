"""The package in a real Debian guest with systemd, udev and ModemManager.

It is installed with apt; simulated sticks use usbredir and the guest's own cdc_acm and udev.
The guest trusts the published test key, so verified sticks are simulated and earn no credit.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.reports import Firmware
from drawwell.simulator.firmware_image import export_public_key
from drawwell.testing.waiting import DEADLINE_S
from lab.cache import or_skip
from lab.console import GuestFailed
from lab.debian import debian
from lab.guest import QemuGuest
from lab.package import package, program_digest
from lab.snapshot import Snapshot, snapshot

pytestmark = [pytest.mark.slow, pytest.mark.long]
PLACES = (
    *("-device", "qemu-xhci"),
    *("-chardev", "socket,id=one,path={run}/one,server=on,wait=off", "-device", "usb-redir,chardev=one"),
    *("-chardev", "socket,id=two,path={run}/two,server=on,wait=off", "-device", "usb-redir,chardev=two"),
)
"""Two ports for sticks."""
STICK = '[[source]]\nname = "stick"\nfirmware_key = "/etc/drawwell/test-key.asc"\n'
UNITS = "systemctl list-units --plain --no-legend --state=active 'drawwell-source@*' | cut -d' ' -f1"
LEFT = """systemctl list-units --all --plain --no-legend '*drawwell*' | tr -s ' ' | cut -d' ' -f1-4
systemctl list-units --failed --plain --no-legend
systemctl list-jobs --no-legend
find /dev/drawwell /run/drawwell* /dev/ttyACM* 2>/dev/null | sort
ps -eo user,args | grep '[b]in/drawwell'
grep -o '/run/drawwell.*' /proc/net/unix | sort | uniq -c
for unit in drawwell-broker drawwell-kernel; do
    ls /proc/$(systemctl show --value -p MainPID $unit)/fd | wc -l
done
"""
"""Everything that drawwell leaves in a machine: units, jobs, files, processes, sockets."""
WHY = "drawwell status; systemctl --no-pager status 'drawwell*'; journalctl -b | grep drawwell | tail -40"
LONG_S = 2 * DEADLINE_S
"""The timeout of a step in an emulated guest on a loaded machine."""


@pytest.fixture(scope="module")
def machine(request: pytest.FixtureRequest) -> Snapshot:
    """Return a guest with the package as in the README, and the test key."""
    with or_skip():
        deb = package()

        def prepare(guest: QemuGuest) -> None:
            guest.check("mkdir -p /etc/drawwell/conf.d")
            guest.put("/etc/drawwell/test-key.asc", export_public_key())
            guest.put("/etc/drawwell/conf.d/stick.toml", STICK)
            guest.put("/root/drawwell.deb", deb)
            guest.check("apt-get install --yes --no-install-recommends /root/drawwell.deb", within_s=900)

        image = debian(getattr(request, "param", "bookworm"), packages=("modemmanager",))
        return snapshot(snapshot(image, *PLACES), prepare=prepare, content=program_digest() + STICK)
    raise AssertionError


@contextlib.contextmanager
def stick(guest: QemuGuest, port: str = "one", *options: str) -> Iterator[None]:
    """Plug a stick into one of the ports; unplug it at the end."""
    command = [sys.executable, "-m", "drawwell", "source", "simulate", "--quiet", "--usbredir"]
    with subprocess.Popen([*command, str(guest.run_dir / port), *options], stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


def status(guest: QemuGuest) -> dict[str, Any]:
    return json.loads(guest.check("drawwell status --json 2>/dev/null || true", within_s=LONG_S) or "{}")


def until_healthy(guest: QemuGuest, count: int = 1) -> dict[str, Any]:
    try:
        guest.until(f"test $({UNITS} | wc -l) = {count}", within_s=LONG_S)
        guest.until(f"drawwell status --json | grep -q '\"healthy_sources\": {count}'", within_s=LONG_S)
    except GuestFailed as failed:
        raise GuestFailed(guest.run(WHY, within_s=LONG_S).output) from failed
    return status(guest)


@pytest.mark.parametrize("machine", ["bookworm", "trixie"], indirect=True)
def test_plugged_in_it_runs(machine: Snapshot, tmp_path: Path) -> None:
    """Unit, firmware, draws, kernel feed, ModemManager and replugging work."""
    with QemuGuest(machine) as guest:
        with stick(guest):
            report = until_healthy(guest)
            (source,) = report["sources"]
            assert source["state"] == "healthy"
            assert source["identity"]["firmware"] == Firmware.VERIFIED
            assert source["identity"]["simulated"] is True
            node = guest.check("readlink -f /dev/drawwell/*")
            assert source["identity"]["path"] == node == "/dev/ttyACM0"

            assert len(guest.check("drawwell draw 32 --hex", within_s=LONG_S)) == 64
            guest.until("systemctl show -p StatusText drawwell-kernel | grep -q 'fed [1-9]'", within_s=LONG_S)
            guest.check("systemctl is-active drawwell-broker drawwell-kernel")
            properties = guest.check("udevadm info -q property /dev/ttyACM0")
            assert "ID_MM_DEVICE_IGNORE=1" in properties or "ID_MM_PORT_IGNORE=1" in properties
            assert "No modems were found" in guest.check("mmcli -L", within_s=LONG_S)
            assert guest.check(f"stat -c %G {node}") == "drawwell-source"
            assert "55000-55001" in guest.check("cat /proc/sys/net/ipv4/ip_local_reserved_ports")

        guest.until(f"test $({UNITS} | wc -l) = 0", within_s=LONG_S)
        guest.until("drawwell status | grep -q 'NOT READY'", within_s=LONG_S)
        assert status(guest)["healthy_sources"] == 0

        with stick(guest):
            assert until_healthy(guest)["healthy_sources"] == 1


def test_a_second_stick_is_a_second_unit(machine: Snapshot) -> None:
    """Two sticks run two units, and one unit can stop without the other."""
    with QemuGuest(machine) as guest, stick(guest):
        until_healthy(guest)
        with stick(guest, "two"):
            report = until_healthy(guest, 2)
            nodes = {each["identity"]["path"] for each in report["sources"]}
            assert nodes == {"/dev/ttyACM0", "/dev/ttyACM1"}
        guest.until(f"test $({UNITS} | wc -l) = 1", within_s=LONG_S)
        until_healthy(guest)


def test_bad_firmware_is_refused_and_named(machine: Snapshot) -> None:
    """A stick with an unsigned image is not used; the journal has the reason."""
    with QemuGuest(machine) as guest, stick(guest, "one", "--fault", "bad-firmware"):
        guest.until("journalctl -b -u 'drawwell-source@*' | grep -q 'is not verified'", within_s=LONG_S)
        guest.until(f"test $({UNITS} | wc -l) = 0", within_s=LONG_S)
        assert status(guest)["healthy_sources"] == 0
        refused = guest.run("drawwell draw 32 --hex", within_s=LONG_S)
        assert refused.status != 0


def test_after_a_reboot_it_is_fed_before_the_machine_is_up(machine: Snapshot) -> None:
    """With a stick and the target, the kernel is fed before multi-user.target."""
    with QemuGuest(machine, reboots=True) as guest, stick(guest):
        until_healthy(guest)
        guest.check("systemctl add-wants multi-user.target drawwell-seeded.target", within_s=LONG_S)
        with contextlib.suppress(AssertionError):
            guest.run("systemctl reboot", within_s=5)  # short: it ends with the guest
        guest.console.wait_ready(LONG_S)
        until_healthy(guest)
        times = guest.check(
            "for unit in drawwell-seeded.target multi-user.target; do "
            "systemctl show --value -p ActiveEnterTimestampMonotonic $unit; done"
        )
        seeded, up = map(int, times.split())
        assert 0 < seeded < up


def test_what_the_machine_lacks_is_reported(machine: Snapshot) -> None:
    """Status reports a clock in 1970, and the unit a missing permission."""
    with QemuGuest(machine) as guest:
        guest.check("date -s '1970-01-02' && systemctl restart drawwell-broker", within_s=LONG_S)
        assert "was never set" in guest.check("drawwell status || true", within_s=LONG_S)
        with stick(guest):
            until_healthy(guest)
            guest.check(f"chown root:root /dev/ttyACM0; systemctl restart $({UNITS})", within_s=LONG_S)
            fault = "no permission to open /dev/ttyACM0"
            guest.until(f"systemctl show -p StatusText $({UNITS}) | grep -q '{fault}'", within_s=LONG_S)
            assert fault in guest.check("drawwell status || true", within_s=LONG_S)


def test_fifty_times_in_and_out(machine: Snapshot) -> None:
    """Fifty replugs leave nothing behind, and the next one works."""
    with QemuGuest(machine) as guest:
        with stick(guest):
            until_healthy(guest)
        guest.until(f"test $({UNITS} | wc -l) = 0", within_s=LONG_S)
        before = guest.check(LEFT, within_s=LONG_S)
        for turn in range(50):
            with stick(guest):
                guest.until("test -c /dev/ttyACM0", within_s=LONG_S)
                if turn % 10 == 9:
                    until_healthy(guest)
            guest.until("! test -c /dev/ttyACM0", within_s=LONG_S)
        guest.put("/tmp/before", f"{before}\n")
        guest.put("/tmp/left", LEFT)
        guest.until("sh /tmp/left | diff /tmp/before -", within_s=LONG_S)
        with stick(guest):
            until_healthy(guest)
