"""``drawwell guest`` with plain QEMU: a real machine is given its bytes, looked at from inside, and let go again."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drawwell.testing.waiting import wait_until
from lab.cache import or_skip
from lab.guest import QemuGuest
from lab.host_programs import host_programs
from lab.initramfs import Image, tiny
from lab.qemu_ga import DEVICE, INIT, MODULES, agent_files
from support.daemon import Daemon, StickThread, command

NAME = f"vm{os.getpid()}"
"""Machines are found by their names, and other tests may run beside."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="QEMU is not installed"),
]


@pytest.fixture
def config(folder: Path) -> Iterator[Path]:
    """The configuration of a broker with one stick, which is plugged in."""
    path = folder / "drawwell.toml"
    path.write_text(
        f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "off"\n'
    )
    with StickThread(folder / "stick", rate=200_000.0):
        yield path


@pytest.fixture
def broker(config: Path) -> Iterator[Path]:
    """The same with a broker that runs."""
    with Daemon("run", config=config, log=config.parent / "log") as running:
        running.until_it_says("healthy")
        yield config


@pytest.fixture(scope="module")
def image() -> Image:
    """A small guest with the QEMU guest agent, of the kernel that knows generation ids."""
    with or_skip():
        files = {**agent_files(), **host_programs("perl")}
        return tiny("full", modules=(*MODULES, "xhci_pci", "cdc_acm"), files=files, init=INIT)


def guest(config: Path, *words: str) -> dict[str, Any]:
    """What ``drawwell guest`` says as JSON; `status` is its exit code."""
    done = command("guest", *words, "--json", config=config)
    return {"status": done.returncode, **json.loads(done.stdout or done.stderr)}


def arguments(plan: dict[str, Any]) -> list[str]:
    """The arguments of a plan as a shell hands them on."""
    pasted = f"printf '%s\\0' {plan['pieces'][0]['text']}"
    done = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def verdicts(answer: dict[str, Any]) -> dict[str, str]:
    return {each["what"]: each["verdict"] for each in answer["findings"]}


def served(config: Path) -> int:
    """What the guest was granted until now."""
    (entry,) = guest(config, "list")["guests"]
    return int(entry["full_bytes"])


def limit(config: Path) -> str:
    """QEMU's own limit of the machine, as audit has it."""
    (facts,) = [each for each in guest(config, "audit", "qemu")["guests"] if each["name"] == NAME]
    return str(facts["limit"])


def test_a_machine_started_with_the_plan_draws_from_this_broker(broker: Path, image: Image) -> None:
    """Applied and started with the planned arguments, it is seen from inside to be healthy, and its account rises."""
    applied = guest(broker, "apply", "qemu", NAME, "--new", "--rate", "64KiB/s")
    assert (applied["status"], len(applied["changes"])) == (0, 1), applied
    assert guest(broker, "apply", "qemu", NAME, "--rate", "64KiB/s")["changes"] == []
    with QemuGuest(image, "-name", NAME, *DEVICE, *arguments(applied["plan"])) as machine:
        machine.until("test -e /tmp/qemu-ga.pid")
        before = served(broker)
        verified = guest(broker, "verify", "qemu", NAME)
        assert verified["looked"] == "from inside", verified
        assert set(verdicts(verified).values()) == {"holds"}, verified
        assert served(broker) >= before + 2560
        assert verdicts(verified)["what it reads is what this broker granted it"] == "holds"
        (facts,) = [each for each in guest(broker, "audit", "qemu")["guests"] if each["name"] == NAME]
        assert (facts["virtio_rng"], facts["generation_id"]) == (True, True)
        assert {each["verdict"] for each in facts["findings"]} == {"holds"}
        reseeded = guest(broker, "reseed", NAME)
        assert set(verdicts(reseeded).values()) == {"holds"}, reseeded


def test_a_running_machine_is_plugged_and_unplugged(broker: Path, image: Image) -> None:
    """By QMP it gets virtio-rng, another limit with another rate, and loses it; a second time nothing happens."""
    monitor = ("-qmp", "unix:{run}/second,server=on,wait=off")
    with QemuGuest(image, "-name", NAME, *DEVICE, *monitor) as machine:
        machine.check("test ! -e /sys/bus/virtio/drivers/virtio_rng/virtio1 && ! head -c 1 /dev/hwrng")
        where = ("--connect", str(machine.run_dir / "second"))
        applied = guest(broker, "apply", "qemu", NAME, *where)
        assert (applied["status"], len(applied["changes"])) == (0, 2), applied
        assert guest(broker, "apply", "qemu", NAME, *where)["changes"] == []
        machine.until("head -c 64 /dev/hwrng > /tmp/drawn")
        assert served(broker) >= 64
        for rate, kept in (("1KiB/s", "8256 bytes in each 8000 ms"), ("none", "none")):
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
    """Beside one such as virt-install adds by itself, ours is made the current one; verify and audit name both."""
    own = ("-object", "rng-random,id=own,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=own")
    monitor = ("-qmp", "unix:{run}/second,server=on,wait=off")
    with QemuGuest(image, "-name", NAME, *DEVICE, *own, *monitor) as machine:
        machine.until("test -e /tmp/qemu-ga.pid")
        where = ("--connect", str(machine.run_dir / "second"))
        applied = guest(broker, "apply", "qemu", NAME, *where)
        assert "made virtio_rng.1 the generator" in str(applied["changes"]), applied
        assert "has a virtio-rng already (rng-random, /dev/urandom)" in str(applied["plan"]["notes"])
        several = "of several virtio-rng it reads this broker's"
        assert verdicts(guest(broker, "verify", "qemu", NAME, *where))[several] == "holds"

        machine.check("echo virtio_rng.0 > /sys/class/misc/hw_random/rng_current")
        wrong = guest(broker, "verify", "qemu", NAME, *where)
        assert "echo virtio_rng.1 > /sys/class/misc/hw_random/rng_current" in json.dumps(wrong)
        failed = {what for what, verdict in verdicts(wrong).items() if verdict == "fails"}
        assert failed == {several, "what it reads is what this broker granted it"}, wrong
        (facts,) = [each for each in guest(broker, "audit", "qemu")["guests"] if each["name"] == NAME]
        assert {each.partition(", ")[0] for each in facts["backend"].split("; ")} == {"rng-egd", "rng-random"}
        assert "egd.sock" in facts["backend"], facts
        assert "its kernel has one virtio-rng to read" in json.dumps(facts["findings"])
        assert guest(broker, "apply", "qemu", NAME, *where, "--remove")["status"] == 0


def test_a_starved_machine_is_not_unplugged(broker: Path, image: Image) -> None:
    """While bytes are owed and cannot be answered, removal waits and refuses with 75; the machine goes on as it was."""
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


def test_a_healthy_machine_is_healthy_every_time(config: Path, image: Image) -> None:
    """Without a rate, one verify after the other holds, also after the broker was killed and nothing kept it alive."""
    folder = config.parent
    with Daemon("run", config=config, log=folder / "log") as first:
        first.until_it_says("healthy")
        planned = guest(config, "apply", "qemu", NAME, "--new")["plan"]
        # the limit's period is a day: QEMU repeats no request while this test lasts
        endless = ",max-bytes=6553600,period=86400000"
        words = [each + endless * each.startswith("virtio-rng") for each in arguments(planned)]
        with QemuGuest(image, "-name", NAME, *DEVICE, *words) as machine:
            machine.until("test -e /tmp/qemu-ga.pid")
            for _ in range(4):
                verified = guest(config, "verify", "qemu", NAME)
                assert set(verdicts(verified).values()) == {"holds"}, verified
            first.kill()
            machine.check("timeout 2 head -c 4096 /dev/hwrng > /tmp/drawn; true")
            with Daemon("run", config=config, log=folder / "log2") as second:
                second.until_it_says("healthy")
                wait_until(
                    lambda: guest(config, "list")["guests"][0]["connected"], "QEMU has connected again"
                )
                verified = guest(config, "verify", "qemu", NAME)
                assert set(verdicts(verified).values()) == {"holds"}, verified


def test_a_running_machine_is_given_a_virtual_stick(broker: Path, image: Image) -> None:
    """Plugged in by QMP it is a OneRNG in there; verify reads its noise, which the guest's account pays."""
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


def test_the_lesser_ways_work_too(config: Path, image: Image) -> None:
    """A FIFO that drawwell holds open, and QEMU's own generator: read from inside, plugged and unplugged."""
    planned = guest(config, "plan", "qemu", NAME, "--via", "fifo")
    with config.open("a") as file:
        file.write(planned["pieces"][1]["text"])
    monitor = ("-qmp", "unix:{run}/second,server=on,wait=off")
    with (
        Daemon("run", config=config, log=config.parent / "log") as broker,
        QemuGuest(image, "-name", NAME, *DEVICE, *monitor) as machine,
    ):
        broker.until_it_says("healthy")
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
