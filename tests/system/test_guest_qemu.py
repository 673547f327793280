"""``drawwell guest`` with plain QEMU, verified in a real machine."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.cache import or_skip
from lab.guest import QemuGuest
from lab.host_programs import host_programs
from lab.initramfs import Image, tiny
from lab.qemu_ga import DEVICE, INIT, MODULES, agent_files
from support.daemon import Daemon, command

NAME = f"vm{os.getpid()}"
"""A name for this test: machines are found by name, and tests run in parallel."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]


@pytest.fixture(scope="module")
def image() -> Image:
    """Return a small guest with the guest agent and generation IDs."""
    with or_skip():
        files = {**agent_files(), **host_programs("perl")}
        return tiny("full", modules=(*MODULES, "xhci_pci", "cdc_acm"), files=files, init=INIT)


def guest(config: Path, *arguments: str) -> dict[str, Any]:
    """Return ``drawwell guest`` as JSON; `status` is its exit code."""
    done = command("guest", *arguments, "--json", config=config)
    return {"status": done.returncode, **json.loads(done.stdout or done.stderr)}


def planned_arguments(plan: dict[str, Any]) -> list[str]:
    """Return a plan's arguments as a shell would pass them."""
    pasted = f"printf '%s\\0' {plan['pieces'][0]['text']}"
    done = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def verdicts(answer: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["verdict"] for each in answer["findings"]}


def served(config: Path) -> int:
    """Return the bytes granted to the guest so far."""
    (entry,) = guest(config, "list")["guests"]
    return int(entry["full_bytes"])


def limit(config: Path) -> str:
    """Return the machine's QEMU limit, from audit."""
    (facts,) = [each for each in guest(config, "audit", "qemu")["guests"] if each["name"] == NAME]
    return str(facts["limit"])


def test_a_machine_started_with_the_plan_draws_from_this_broker(broker: Path, image: Image) -> None:
    """The machine is healthy, and its account grows."""
    applied = guest(broker, "apply", "qemu", NAME, "--new", "--rate", "64KiB/s")
    assert (applied["status"], len(applied["changes"])) == (0, 1), applied
    assert guest(broker, "apply", "qemu", NAME, "--rate", "64KiB/s")["changes"] == []
    with QemuGuest(image, "-name", NAME, *DEVICE, *planned_arguments(applied["plan"])) as machine:
        machine.until("test -e /tmp/qemu-ga.pid")
        before = served(broker)
        verified = guest(broker, "verify", "qemu", NAME)
        assert verified["looked"] == "from inside", verified
        assert set(verdicts(verified).values()) == {"holds"}, verified
        assert served(broker) >= before + 2560
        assert verdicts(verified)["the guest reads bytes from this broker"] == "holds"
        (facts,) = [each for each in guest(broker, "audit", "qemu")["guests"] if each["name"] == NAME]
        assert (facts["virtio_rng"], facts["generation_id"]) == (True, True)
        assert {each["verdict"] for each in facts["findings"]} == {"holds"}
        reseeded = guest(broker, "reseed", NAME)
        assert set(verdicts(reseeded).values()) == {"holds"}, reseeded


def test_a_running_machine_is_plugged_and_unplugged(broker: Path, image: Image) -> None:
    """QMP plugs in virtio-rng, changes its limit, and unplugs it, each once."""
    monitor = ("-qmp", "unix:{run}/second,server=on,wait=off")
    with QemuGuest(image, "-name", NAME, *DEVICE, *monitor) as machine:
        machine.check("test ! -e /sys/bus/virtio/drivers/virtio_rng/virtio1 && ! head -c 1 /dev/hwrng")
        where = ("--connect", str(machine.run_dir / "second"))
        applied = guest(broker, "apply", "qemu", NAME, *where)
        assert (applied["status"], len(applied["changes"])) == (0, 2), applied
        assert guest(broker, "apply", "qemu", NAME, *where)["changes"] == []
        machine.until("head -c 64 /dev/hwrng > /tmp/drawn")
        assert served(broker) >= 64
        for rate, kept in (("1KiB/s", "8256 bytes per 8000 ms"), ("none", "none")):
            changed = guest(broker, "apply", "qemu", NAME, *where, "--rate", rate)
            assert (changed["status"], len(changed["changes"])) == (0, 2), changed
            assert limit(broker) == kept
            machine.until("head -c 64 /dev/hwrng > /tmp/drawn")
        removed = guest(broker, "apply", "qemu", NAME, *where, "--remove")
        assert (removed["status"], len(removed["changes"])) == (0, 2), removed
        machine.check("! head -c 1 /dev/hwrng")
        assert guest(broker, "list")["guests"] == []
        assert guest(broker, "apply", "qemu", NAME, *where, "--remove")["changes"] == []


def test_a_machine_that_has_a_generator_already_reads_ours(broker: Path, image: Image) -> None:
    """The agent selects drawwell's generator; verify and audit name both."""
    own = ("-object", "rng-random,id=own,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=own")
    monitor = ("-qmp", "unix:{run}/second,server=on,wait=off")
    with QemuGuest(image, "-name", NAME, *DEVICE, *own, *monitor) as machine:
        machine.until("test -e /tmp/qemu-ga.pid")
        where = ("--connect", str(machine.run_dir / "second"))
        applied = guest(broker, "apply", "qemu", NAME, *where)
        keeps = f"machine {NAME} keeps rng-random, /dev/urandom, which its kernel reads"
        assert keeps in str(applied["changes"]), applied
        assert "made the guest's kernel read virtio_rng.1" in str(applied["changes"]), applied
        assert "already has a virtio-rng (rng-random, /dev/urandom)" in str(applied["plan"]["notes"])
        several = "of several virtio-rng devices, the guest reads this broker's"
        assert verdicts(guest(broker, "verify", "qemu", NAME, *where))[several] == "holds"

        machine.check("echo virtio_rng.0 > /sys/class/misc/hw_random/rng_current")
        wrong = guest(broker, "verify", "qemu", NAME, *where)
        assert "echo virtio_rng.1 > /sys/class/misc/hw_random/rng_current" in json.dumps(wrong)
        failed = {what for what, verdict in verdicts(wrong).items() if verdict == "fails"}
        assert failed == {several, "the guest reads bytes from this broker"}, wrong
        (facts,) = [each for each in guest(broker, "audit", "qemu")["guests"] if each["name"] == NAME]
        assert {each.partition(", ")[0] for each in facts["backend"].split("; ")} == {"rng-egd", "rng-random"}
        assert "egd.sock" in facts["backend"], facts
        assert "the machine has only one virtio-rng" in json.dumps(facts["findings"])
        assert guest(broker, "apply", "qemu", NAME, *where, "--remove")["status"] == 0


def test_a_starved_machine_is_not_unplugged(broker: Path, image: Image) -> None:
    """--remove waits for pending requests and fails with 75, without harm."""
    monitor = ("-qmp", "unix:{run}/second,server=on,wait=off")
    with QemuGuest(image, "-name", NAME, *DEVICE, *monitor) as machine:
        where = ("--connect", str(machine.run_dir / "second"))
        assert guest(broker, "apply", "qemu", NAME, *where, "--quota", "1B/day")["status"] == 0
        machine.until("grep virtio /sys/class/misc/hw_random/rng_current")
        machine.check("(head -c 64 /dev/hwrng > /tmp/drawn; echo done > /tmp/done) > /dev/null 2>&1 &")
        # short: it never comes
        refused = guest(broker, "apply", "qemu", NAME, *where, "--remove", "--timeout", "1s")
        assert (refused["status"], refused["exit_code"]) == (75, 75), refused
        machine.check("test ! -e /tmp/done")
        assert guest(broker, "apply", "qemu", NAME, *where, "--quota", "none")["status"] == 0
        machine.until("test -e /tmp/done")
        assert guest(broker, "apply", "qemu", NAME, *where, "--remove")["status"] == 0
        machine.check("echo alive")


@pytest.mark.long
def test_a_healthy_machine_is_healthy_every_time(config: Path, image: Image) -> None:
    """Each verify succeeds, also after the broker was killed and restarted."""
    folder = config.parent
    with Daemon("run", config=config, log=folder / "log") as first:
        first.wait_for_text("healthy")
        planned = guest(config, "apply", "qemu", NAME, "--new")["plan"]
        # the limit's period is a day: QEMU repeats no request while this test lasts
        endless = ",max-bytes=6553600,period=86400000"
        given = [each + endless * each.startswith("virtio-rng") for each in planned_arguments(planned)]
        with QemuGuest(image, "-name", NAME, *DEVICE, *given) as machine:
            machine.until("test -e /tmp/qemu-ga.pid")
            for _ in range(15):
                verified = guest(config, "verify", "qemu", NAME)
                assert set(verdicts(verified).values()) == {"holds"}, verified
            first.kill()
            machine.check("timeout 2 head -c 4096 /dev/hwrng > /tmp/drawn; true")
            with Daemon("run", config=config, log=folder / "log2") as second:
                second.wait_for_text("healthy")
                verified = guest(config, "verify", "qemu", NAME)
                assert set(verdicts(verified).values()) == {"holds"}, verified


def test_a_running_machine_is_given_a_virtual_stick(broker: Path, image: Image) -> None:
    """Plugged in by QMP, it is a OneRNG that verify can read."""
    usb = ("-device", "qemu-xhci", "-qmp", "unix:{run}/second,server=on,wait=off")
    with QemuGuest(image, "-name", NAME, *DEVICE, *usb) as machine:
        where = ("--connect", str(machine.run_dir / "second"))
        applied = guest(broker, "apply", "qemu", NAME, "--via", "usb-virtual", *where)
        assert (applied["status"], len(applied["changes"])) == (0, 2), applied
        machine.until("test -c /dev/ttyACM0")
        verified = guest(broker, "verify", "qemu", NAME, *where)
        assert verified["looked"] == "from inside", verified
        assert set(verdicts(verified).values()) == {"holds"}, verified
        assert "virtual" in json.dumps(verified)
        assert guest(broker, "apply", "qemu", NAME, *where, "--remove")["status"] == 0
        machine.until("test ! -e /dev/ttyACM0")


def test_a_running_machine_has_only_the_attachment_that_was_applied(broker: Path, image: Image) -> None:
    """Another --via replaces a device, or is refused if the broker feeds it."""
    usb = ("-device", "qemu-xhci", "-qmp", "unix:{run}/second,server=on,wait=off")
    with QemuGuest(image, "-name", NAME, *DEVICE, *usb) as machine:
        where = ("--connect", str(machine.run_dir / "second"))
        assert guest(broker, "apply", "qemu", NAME, "--via", "builtin", *where)["status"] == 0
        machine.until("head -c 64 /dev/hwrng > /tmp/drawn")
        replaced = guest(broker, "apply", "qemu", NAME, *where)
        assert "instead of the previous device" in str(replaced["changes"]), replaced
        machine.until("head -c 64 /dev/hwrng > /tmp/drawn")
        assert served(broker) >= 64

        refused = guest(broker, "apply", "qemu", NAME, "--via", "usb-virtual", *where)
        remove = f"apply qemu {NAME} --connect {where[1]} --remove"
        assert (refused["status"], f"drawwell guest {remove}'" in refused["hint"]) == (64, True), refused
        (entry,) = guest(broker, "list")["guests"]
        assert (entry["via"], entry["connected"]) == ("virtio", 1)
        assert guest(broker, *remove.split())["status"] == 0
        assert guest(broker, "apply", "qemu", NAME, "--via", "usb-virtual", *where)["status"] == 0
        machine.until("test -c /dev/ttyACM0")


@pytest.mark.long
def test_the_lesser_ways_work_too(config: Path, image: Image) -> None:
    """drawwell's FIFO and QEMU's own generator can be plugged and unplugged."""
    planned = guest(config, "plan", "qemu", NAME, "--via", "fifo")
    with config.open("a") as file:
        file.write(planned["pieces"][1]["text"])
    monitor = ("-qmp", "unix:{run}/second,server=on,wait=off")
    with (
        Daemon("run", config=config, log=config.parent / "log") as broker,
        QemuGuest(image, "-name", NAME, *DEVICE, *monitor) as machine,
    ):
        broker.wait_for_text("healthy")
        where = ("--connect", str(machine.run_dir / "second"))
        for via in ("fifo", "builtin"):
            assert guest(config, "apply", "qemu", NAME, "--via", via, *where)["status"] == 0
            machine.until("head -c 64 /dev/hwrng > /tmp/drawn")
            assert (
                verdicts(guest(config, "verify", "qemu", NAME, "--via", via))["/dev/hwrng can be read"]
                == "holds"
            )
            removed = guest(config, "apply", "qemu", NAME, "--via", via, *where, "--remove")
            assert (removed["status"], len(removed["changes"])) == (0, 1), removed
