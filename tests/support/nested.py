"""L1, a Debian with drawwell and sticks on its USB bus; L2 is inside it.

The sticks are simulated, by usbredir into L1. L2 is a kernel and busybox.
"""

import contextlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drawwell.simulator.firmware_image import export_public_key
from lab.guest import QemuGuest
from lab.snapshot import Snapshot

SOURCE = Path(__file__).resolve().parents[2] / "src"
PLACES = (
    *("-device", "qemu-xhci"),
    *("-chardev", "socket,id=one,path={run}/one,server=on,wait=off", "-device", "usb-redir,chardev=one"),
    *("-chardev", "socket,id=two,path={run}/two,server=on,wait=off", "-device", "usb-redir,chardev=two"),
)
"""Two ports of L1."""
PORTS = {"one": "1-1", "two": "1-2"}
"""Their names in L1's kernel."""
INSIDE_L2 = """echo "L2 waits"
n=0
while :; do
    until test -c /dev/ttyACM0; do sleep 1; done
    n=$((n + 1))
    stty -F /dev/ttyACM0 raw -echo
    exec 3<>/dev/ttyACM0
    printf cmdO >&3
    usb=$(cat $(dirname $(grep -l 6086 /sys/bus/usb/devices/*/idProduct))/idVendor)
    echo "L2 reads $n $usb:6086 $(head -c 32 <&3 | hexdump -v -e '1/1 "%02x"')"
    exec 3>&-
    while test -c /dev/ttyACM0; do sleep 1; done
    echo "L2 lost $n"
done
"""
CONFIG = '[kernel]\nfeed = false\n[[source]]\nname = "stick"\npath = "auto"\nfirmware_key = "/etc/drawwell/key.asc"\n'
LONG_S = 600.0
"""The timeout of a step in a nested guest on a loaded machine."""


def wait(guest: QemuGuest, command: str) -> str:
    """Repeat a command in L1 until it succeeds; return its output.

    It is repeated rarely: each try takes L1's only CPU from L2.
    """
    return guest.check(f"until {command}; do sleep 2; done", within_s=LONG_S)


@contextlib.contextmanager
def with_drawwell(machine: Snapshot, folder: Path) -> Iterator[QemuGuest]:
    """Resume L1 with this drawwell and a broker without a stick."""
    archive = folder / "drawwell.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(SOURCE / "drawwell", "drawwell")  # compiled: the guest is slow
    with QemuGuest(machine) as guest:
        guest.put("/tmp/drawwell.tar", archive)
        guest.check("mkdir -p /opt/d /etc/drawwell && tar xf /tmp/drawwell.tar -C /opt/d")
        guest.put("/usr/local/bin/drawwell", '#!/bin/sh\nPYTHONPATH=/opt/d exec python3 -m drawwell "$@"\n')
        guest.put("/etc/drawwell/key.asc", export_public_key())
        guest.put("/etc/drawwell/drawwell.toml", CONFIG)
        guest.check("chmod 755 /usr/local/bin/drawwell")
        guest.check("setsid drawwell run >/run/well.log 2>&1 &")
        wait(guest, "drawwell status >/dev/null 2>&1; test $? -le 1")
        yield guest


@contextlib.contextmanager
def stick(guest: QemuGuest, port: str = "one") -> Iterator[subprocess.Popen[str]]:
    """Plug a stick into one of L1's ports; unplug it at the end."""
    command = [
        sys.executable,
        "-m",
        "drawwell",
        "source",
        "simulate",
        "--quiet",
        "--rate",
        "20000",
        "--usbredir",
    ]
    with subprocess.Popen([*command, str(guest.run_dir / port)], stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
    wait(guest, f"! test -e /sys/bus/usb/devices/{PORTS[port]}/idProduct")
    if port == "one":  # while a process has the node open, the next stick gets another number
        wait(guest, "! find /proc/[0-9]*/fd -lname '/dev/ttyACM*' 2>/dev/null | grep -q .")


def drawwell(guest: QemuGuest, *arguments: str) -> dict[str, Any]:
    """Return the JSON of drawwell in L1; `exit` is its exit code."""
    ran = guest.run(f"drawwell {' '.join(arguments)} --json 2>&1", within_s=LONG_S)
    at = ran.output.find("{")
    said = json.JSONDecoder().raw_decode(ran.output, at)[0] if at >= 0 else {}
    return {**said, "exit": ran.status, "said": ran.output}


def source(guest: QemuGuest) -> dict[str, Any]:
    (found,) = drawwell(guest, "status")["sources"]
    return dict(found)


def until_healthy(guest: QemuGuest) -> None:
    wait(guest, "drawwell status --json | grep -q '\"healthy_sources\": 1'")
    report = source(guest)
    assert (report["state"], report["paused"], report["last_error"]) == ("healthy", False, "")
    assert report["identity"]["path"] == "/dev/ttyACM0", "its node has the number that it had"


def reads(guest: QemuGuest) -> int:
    """Return how many times L2 has read from its stick so far."""
    return int(guest.run("grep -c 'L2 reads' /run/l2.log").output)


def until_l2_reads(guest: QemuGuest, number: int) -> None:
    """Wait until L2's driver has a node that delivers bytes."""
    line = wait(guest, f"grep -a 'L2 reads {number} ' /run/l2.log | grep -E ' [0-9a-f]{{64}}'")
    assert line.split()[3] == "1d50:6086"
    assert len(set(bytes.fromhex(line.split()[4]))) > 8, "they are noise"


def until_l2_lost(guest: QemuGuest, number: int) -> None:
    """Wait until the node in L2 is gone."""
    wait(guest, f"grep -q 'L2 lost {number}' /run/l2.log")
